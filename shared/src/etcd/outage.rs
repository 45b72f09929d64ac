//! What keeps failing is told when it begins and when its reason changes, not at every attempt: an
//! outage may last for hours.

/// Remembers why something fails. Nothing fails at first.
#[derive(Debug, Default)]
pub struct Outage {
    last_reason: Option<String>,
}

impl Outage {
    /// It failed. Returns whether that, or its reason, is news.
    pub fn is_news(&mut self, reason: &str) -> bool {
        if self.last_reason.as_deref() == Some(reason) {
            return false;
        }
        self.last_reason = Some(reason.to_owned());
        true
    }

    /// It went well. Returns whether that is news.
    pub fn is_over(&mut self) -> bool {
        self.last_reason.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_for_each_reason() {
        let mut outage = Outage::default();
        assert!(!outage.is_over());
        let told = ["a", "a", "b", "b", "a"].map(|reason| outage.is_news(reason));
        assert_eq!(told, [true, false, true, false, true]);
        assert!(outage.is_over() && !outage.is_over());
        assert!(outage.is_news("a"), "it is another one");
    }
}
