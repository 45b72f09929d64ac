//! HTML from texts of strangers: nothing of them is ever markup.

/// Writes a text so that it is a text, in an element or in a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Not even a page may have these; directions of writing can make a name look like another.
            it if it.is_control()
                || matches!(it, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                escaped.push('\u{fffd}');
            }
            it => escaped.push(it),
        }
    }
    escaped
}

/// A section with its title, and a line on how to read it.
pub(super) fn section(id: &str, title: &str, hint: &str, body: &str) -> String {
    let (title, hint) = (escape(title), escape(hint));
    format!("<section id=\"{id}\"><h2>{title}</h2><p class=\"hint\">{hint}</p>{body}</section>\n")
}

/// A table of texts. All columns but the first are numbers.
pub(super) fn table<R: AsRef<[String]>>(heads: &[&str], rows: &[R]) -> String {
    let cells = |tag: &str, cells: &[String]| {
        let cells = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)));
        format!("<tr>{}</tr>", cells.collect::<String>())
    };
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let body: String = rows.iter().map(|row| cells("td", row.as_ref())).collect();
    format!(
        "<div class=\"wide\"><table><thead>{}</thead><tbody>{body}</tbody></table></div>",
        cells("th", &heads)
    )
}

/// The names of the colours of a plot.
pub(super) fn legend(entries: &[(&str, &str)]) -> String {
    let entries = entries.iter().map(|(class, name)| {
        format!("<span><i class=\"swatch {class}\"></i>{}</span>", escape(name))
    });
    format!("<p class=\"legend\">{}</p>", entries.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_is_ever_markup(text: String) {
            let escaped = escape(&text);
            let markup = |it: char| matches!(it, '<' | '>' | '"' | '\'') || it.is_control();
            prop_assert!(!escaped.contains(markup), "{}", escaped);
            let entities = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
            let rest = entities.iter().fold(escaped, |rest, entity| rest.replace(entity, ""));
            prop_assert!(!rest.contains('&'), "{}", rest);
        }
    }
}
