//! Which of a model's environment variables reach a worker.
//!
//! An allow-list: a worker is a process on the operator's machine, and whoever may create a model
//! must not steer its loader, its credentials or its flags.

use std::collections::BTreeMap;

/// Names with these beginnings are settings of serving toolkits (SageMaker developer guide, "Use your
/// own inference code"; Multi Model Server, "Advanced configuration"; TorchServe, the same).
const ALLOWED: [&str; 4] = ["SAGEMAKER_", "MMS_", "TS_", "MODEL_"];

/// Settings of the libraries that compute, name by name: others of theirs load code or write files.
const ALLOWED_NAMES: [&str; 4] =
    ["OMP_NUM_THREADS", "OMP_DYNAMIC", "MKL_NUM_THREADS", "MKL_DYNAMIC"];

/// Of these, what the platform itself says to a container.
const OURS: [&str; 4] = [
    "SAGEMAKER_BIND_TO_PORT",
    "SAGEMAKER_SAFE_PORT_RANGE",
    "SAGEMAKER_MULTI_MODEL",
    "SAGEMAKER_MULTI_MODE",
];

/// Returns what may reach a worker.
pub fn allowed(environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let may = |name: &str| {
        (ALLOWED.iter().any(|it| name.starts_with(it)) || ALLOWED_NAMES.contains(&name))
            && !OURS.contains(&name)
    };
    let allowed = environment.iter().filter(|(name, value)| may(name) && !value.contains('\0'));
    allowed.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_of_serving_reach_a_worker() {
        let given = [
            "SAGEMAKER_MODEL_SERVER_WORKERS",
            "MMS_DEFAULT_RESPONSE_TIMEOUT",
            "TS_X",
            "OMP_NUM_THREADS",
            "LD_PRELOAD",
            "MKL_VERBOSE_OUTPUT_FILE",
            "OMP_TOOL_LIBRARIES",
            "LD_LIBRARY_PATH",
            "PATH",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "WORKER_BIND",
            "ROUTER_LISTEN",
            "MANIFOLD_REPEATS",
            "RUST_LOG",
            "http_proxy",
            "PYTHONPATH",
            "SAGEMAKER_BIND_TO_PORT",
            "SAGEMAKER_MULTI_MODEL",
            "sagemaker_x",
            "MALLOC_CONF",
        ];
        let given = given.map(|name| (name.to_owned(), "1".to_owned())).into();
        let names: Vec<String> = allowed(&given).into_keys().collect();
        let expected = [
            "MMS_DEFAULT_RESPONSE_TIMEOUT",
            "OMP_NUM_THREADS",
            "SAGEMAKER_MODEL_SERVER_WORKERS",
            "TS_X",
        ];
        assert_eq!(names, expected);
    }
}
