//! The Python half, carried in this program and written to disk for the interpreter.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Below this folder, as the interpreter finds them.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../python/", $name)))),*]
    };
}

const FILES: &[(&str, &str)] = files![
    "manifold_handler/__init__.py",
    "manifold_handler/answers.py",
    "manifold_handler/context.py",
    "manifold_handler/entry.py",
    "manifold_handler/environment.py",
    "manifold_handler/exceptions.py",
    "manifold_handler/frames.py",
    "manifold_handler/main.py",
    "manifold_handler/metrics.py",
    "manifold_handler/parent.py",
    "manifold_handler/serve.py",
    "manifold_handler/toolkit/__init__.py",
    "manifold_handler/toolkit/content.py",
    "manifold_handler/toolkit/errors.py",
    "manifold_handler/toolkit/script.py",
    "manifold_handler/toolkit/service.py",
    "manifold_handler/toolkit/transformer.py",
    "compatible/README.md",
    "compatible/mms/__init__.py",
    "compatible/mms/context.py",
    "compatible/mms/service.py",
    "compatible/mms/metrics/__init__.py",
    "compatible/mms/metrics/dimension.py",
    "compatible/mms/metrics/metric.py",
    "compatible/mms/metrics/metrics_store.py",
    "compatible/sagemaker_inference/__init__.py",
    "compatible/sagemaker_inference/content_types.py",
    "compatible/sagemaker_inference/decoder.py",
    "compatible/sagemaker_inference/default_handler_service.py",
    "compatible/sagemaker_inference/default_inference_handler.py",
    "compatible/sagemaker_inference/encoder.py",
    "compatible/sagemaker_inference/environment.py",
    "compatible/sagemaker_inference/errors.py",
    "compatible/sagemaker_inference/logging.py",
    "compatible/sagemaker_inference/model_server.py",
    "compatible/sagemaker_inference/parameters.py",
    "compatible/sagemaker_inference/transformer.py",
    "compatible/sagemaker_inference/utils.py",
    "compatible/ts/__init__.py",
    "compatible/ts/context.py",
    "compatible/ts/service.py",
    "compatible/ts/metrics/__init__.py",
    "compatible/ts/metrics/dimension.py",
    "compatible/ts/metrics/metric.py",
    "compatible/ts/metrics/metrics_store.py",
    "compatible/ts/torch_handler/__init__.py",
    "compatible/ts/torch_handler/base_handler.py",
    "compatible/ts/torch_handler/image_classifier.py",
    "compatible/ts/torch_handler/vision_handler.py",
    "compatible/ts/utils/__init__.py",
    "compatible/ts/utils/util.py",
];

/// Writes the files into a folder that this worker alone writes, and returns it.
pub(super) fn write(folder: &Path) -> io::Result<PathBuf> {
    for (name, text) in FILES {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().expect("every file lies in a folder"))?;
        fs::write(file, text)?;
    }
    Ok(folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_python_file_is_carried() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
        let mut found = BTreeSet::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|it| it == "py") {
                    found.insert(path.strip_prefix(&root).unwrap().to_owned());
                }
            }
        }
        let carried: BTreeSet<PathBuf> = FILES
            .iter()
            .map(|(name, _)| PathBuf::from(name))
            .filter(|it| it.extension().is_some_and(|it| it == "py"))
            .collect();
        found.retain(|it| !it.starts_with("tests"));
        assert_eq!(carried, found);
    }
}
