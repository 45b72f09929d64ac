//! Which models the zoo has, and what lies in each one's archive.

use crate::archive::File;

/// Class names in the order of the outputs. See `assets/README.md` for their origin.
const IMAGENET_CLASSES: &str = include_str!("../assets/imagenet_classes.txt");

#[derive(Debug)]
pub(crate) struct Entry {
    /// The target model, without `.tar.gz`.
    pub(crate) name: String,
    pub(crate) network: NetworkKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetworkKind {
    /// Real `ImageNet` weights.
    EfficientNetLite(LiteSize),
    /// Seeded random weights, as the ones below.
    ResNet18,
    ResNet152,
    SqueezeNet {
        seed: i64,
    },
    /// 16 → 32 → 16: so small that only the server's own cost shows.
    TinyMlp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LiteSize {
    Lite0,
    Lite1,
    Lite2,
}

pub(crate) fn entries() -> Vec<Entry> {
    let named = [
        ("efficientnet_lite0", NetworkKind::EfficientNetLite(LiteSize::Lite0)),
        ("efficientnet_lite1", NetworkKind::EfficientNetLite(LiteSize::Lite1)),
        ("efficientnet_lite2", NetworkKind::EfficientNetLite(LiteSize::Lite2)),
        ("resnet_18", NetworkKind::ResNet18),
        ("resnet_152", NetworkKind::ResNet152),
        ("squeezenet_v1.0", NetworkKind::SqueezeNet { seed: 100 }),
        ("tiny_mlp", NetworkKind::TinyMlp),
    ];
    let copies = (0..6).map(|seed| Entry {
        name: format!("demo-subfolder/squeezenet_v1.0_{seed}"),
        network: NetworkKind::SqueezeNet { seed },
    });
    named
        .into_iter()
        .map(|(name, network)| Entry { name: name.to_owned(), network })
        .chain(copies)
        .collect()
}

/// What lies in the archive of `entry`, whose TorchScript is `model`. Weights with a licence take it
/// along.
pub(crate) fn files(entry: &Entry, model: Vec<u8>, licence: Option<Vec<u8>>) -> Vec<File> {
    let file = |name: &str, bytes: &[u8]| File { name: name.to_owned(), bytes: bytes.to_vec() };
    let mut files = vec![file("manifold.toml", manifest(entry.network).as_bytes())];
    if entry.network != NetworkKind::TinyMlp {
        files.push(file("labels.txt", IMAGENET_CLASSES.as_bytes()));
    }
    files.extend(licence.map(|bytes| File { name: "LICENSE".to_owned(), bytes }));
    files.push(File { name: "model.pt".to_owned(), bytes: model });
    files
}

fn manifest(network: NetworkKind) -> String {
    match network {
        NetworkKind::EfficientNetLite(size) => image_manifest(
            size.image_side(),
            "scale = 1.0\nmean = [127.0, 127.0, 127.0]\nstd = [128.0, 128.0, 128.0]\n",
        ),
        NetworkKind::ResNet18 | NetworkKind::ResNet152 | NetworkKind::SqueezeNet { .. } => {
            image_manifest(224, "")
        }
        NetworkKind::TinyMlp => "\
[model]
file = \"model.pt\"

[input]
kind = \"tensor\"
dtype = \"float32\"
shape = [-1, 16]

[output]
kind = \"tensor\"
"
        .to_owned(),
    }
}

fn image_manifest(side: i64, values: &str) -> String {
    format!(
        "\
[model]
file = \"model.pt\"

[input]
kind = \"image\"
width = {side}
height = {side}
{values}
[output]
kind = \"classification\"
top_k = 5
labels = \"labels.txt\"
softmax = true
"
    )
}

impl LiteSize {
    pub(crate) fn image_side(self) -> i64 {
        match self {
            Self::Lite0 => 224,
            Self::Lite1 => 240,
            Self::Lite2 => 260,
        }
    }

    /// The name that the files of its weights begin with.
    pub(crate) fn weights_name(self) -> &'static str {
        match self {
            Self::Lite0 => "efficientnet_lite0",
            Self::Lite1 => "efficientnet_lite1",
            Self::Lite2 => "efficientnet_lite2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_name_for_every_output() {
        assert_eq!(IMAGENET_CLASSES.lines().count(), 1000);
        assert_eq!(IMAGENET_CLASSES.lines().nth(285), Some("Egyptian cat"));
    }

    #[test]
    fn every_manifest_is_toml_and_names_the_files_that_lie_beside_it() {
        for entry in entries() {
            let files = files(&entry, vec![1], None);
            let manifest: toml::Table =
                toml::from_str(std::str::from_utf8(&files[0].bytes).unwrap()).unwrap();
            let has = |name: &str| files.iter().any(|it| it.name == name);
            assert!(has(manifest["model"]["file"].as_str().unwrap()), "{}", entry.name);
            if let Some(labels) = manifest["output"].get("labels") {
                assert!(has(labels.as_str().unwrap()), "{}", entry.name);
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = entries().into_iter().map(|it| it.name).collect();
        let n_all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), n_all);
    }
}
