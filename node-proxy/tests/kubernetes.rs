//! `--kubernetes` as an operator sees it: what is missing is said with what to do.

use std::process::{Command, Output};

fn canopy(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_canopy"));
    for variable in ["CANOPY_CONFIG", "CANOPY_NODE", "KUBECONFIG", "KUBERNETES_SERVICE_HOST"] {
        command.env_remove(variable);
    }
    command.args(arguments).args(["--metrics-addr", "127.0.0.1:0"]).output().expect("the binary runs")
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let config = |server: &str, rest: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: '{server}'{rest}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: c}}}}]\nusers: [{{name: c, user: {{}}}}]\n"
        )
    };
    let proxied = file("proxied", &config("http://127.0.0.1:1", ", proxy-url: 'http://127.0.0.1:2'"));
    let plain = file("plain", &config("http://127.0.0.1:1", ""));
    for (arguments, words) in [
        (&["control", "--kubernetes", "--kubeconfig", "/nowhere/at/all"][..], "--kubeconfig"),
        (&["control", "--kubernetes", "--kubeconfig", "/nowhere/at/all"], "/nowhere/at/all"),
        (&["control", "--kubernetes", "--kubeconfig", &proxied], "proxy-url"),
        (&["control", "--kubernetes", "--kubeconfig", &plain, "--context", "east"], "east"),
        (&["run", "--kubernetes", "--kubeconfig", &plain], "--node NAME"),
    ] {
        let output = canopy(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}
