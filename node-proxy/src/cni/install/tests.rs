//! In directories of the tests' own, with networks as bridge, Calico, Cilium and Multus leave them.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, time::Duration};

use tempfile::TempDir;

use super::*;

const CALICO: &str = r#"{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"calico","ipam":{"type":"calico-ipam"},"kubernetes":{"kubeconfig":"/etc/cni/net.d/calico-kubeconfig"}},{"type":"portmap","snat":true,"capabilities":{"portMappings":true}}]}"#;
const BRIDGE: &str = r#"{"cniVersion":"0.3.1","name":"podnet","type":"bridge","bridge":"cni0","ipam":{"type":"host-local","subnet":"10.1.0.0/16"}}"#;
const MULTUS: &str = r#"{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus-shim","clusterNetwork":"/host/etc/cni/net.d/10-calico.conflist"}"#;

struct Node {
    options: Options,
    directory: TempDir,
}

impl Node {
    fn with(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["net.d", "bin", "account"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("program"), "the program").unwrap();
        fs::write(at("account/token"), "abc\n").unwrap();
        fs::write(at("account/ca.crt"), "roots").unwrap();
        for (name, text) in files {
            fs::write(at("net.d").join(name), text).unwrap();
        }
        let account = Account {
            server: "https://10.96.0.1:443".to_owned(),
            token: at("account/token"),
            roots: at("account/ca.crt"),
        };
        let told = Told {
            gate: "/run/canopy/gate.sock".into(),
            cache: Some("/var/lib/canopy/namespaces.json".into()),
            exempt: vec!["canopy-system".to_owned()],
            seconds: 20,
        };
        let options = Options {
            conf_dir: at("net.d"),
            conf_dir_of_host: "/etc/cni/net.d".into(),
            bin_dir: at("bin"),
            conf_name: None,
            program: at("program"),
            account: Some(account),
            told,
        };
        Self { options, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.options.conf_dir.join(name)
    }

    fn plugins(&self, name: &str) -> Vec<String> {
        let list: Value = serde_json::from_str(&fs::read_to_string(self.path(name)).unwrap()).unwrap();
        let plugins = list["plugins"].as_array().unwrap().iter();
        plugins.map(|plugin| plugin["type"].as_str().unwrap().to_owned()).collect()
    }

    /// Every file of both directories, with what is in it.
    fn everything(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let directories = [&self.options.conf_dir, &self.options.bin_dir];
        let files = directories.into_iter().flat_map(|directory| fs::read_dir(directory).unwrap());
        files.map(|file| file.unwrap().path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    fn uninstall(&self) -> Vec<Change> {
        uninstall(&self.options.conf_dir, &self.options.bin_dir, false).unwrap()
    }
}

fn same_json(one: &[u8], other: &[u8]) -> bool {
    let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    value(one) == value(other)
}

#[test]
fn it_is_installed_once_with_what_the_plugin_is_to_know_and_taken_away_as_if_it_had_never_been() {
    let node = Node::with(&[
        ("10-calico.conflist", CALICO),
        ("99-loopback.conf", "{\"broken"),
        ("calico-kubeconfig", "x"),
    ]);
    fs::set_permissions(node.path("10-calico.conflist"), fs::Permissions::from_mode(0o644)).unwrap();
    let before = node.everything();
    let changes = install(&node.options).unwrap();
    assert_eq!(
        changes.last(),
        Some(&Change::Chained(node.path("10-calico.conflist"))),
        "the chain comes last"
    );
    assert_eq!(node.plugins("10-calico.conflist"), ["calico", "portmap", NAME]);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(node.path("10-calico.conflist")), 0o644, "who could read it can");
    assert_eq!(mode(node.options.bin_dir.join(NAME)), 0o755);
    assert_eq!((mode(node.path(account::KUBECONFIG)), mode(node.path(account::ROOTS))), (0o600, 0o600));
    let list: Value = serde_json::from_slice(&fs::read(node.path("10-calico.conflist")).unwrap()).unwrap();
    let expected = json!({
        "type": NAME, "gate": "/run/canopy/gate.sock", "cache": "/var/lib/canopy/namespaces.json",
        "kubeconfig": "/etc/cni/net.d/canopy-cni.kubeconfig", "exemptNamespaces": ["canopy-system"], "timeoutSeconds": 20
    });
    assert_eq!(list["plugins"][2], expected);
    let kubeconfig: Value =
        serde_json::from_slice(&fs::read(node.path(account::KUBECONFIG)).unwrap()).unwrap();
    assert_eq!(kubeconfig["users"][0]["user"]["token"], "abc");
    assert_eq!(install(&node.options).unwrap(), [], "twice is once");
    assert_eq!(
        node.uninstall().first(),
        Some(&Change::Unchained(node.path("10-calico.conflist"))),
        "it goes first"
    );
    let mut after = node.everything();
    let list = after.insert(node.path("10-calico.conflist"), CALICO.into()).unwrap();
    assert!(same_json(&list, CALICO.as_bytes()));
    assert_eq!(after, before);
    assert_eq!(node.uninstall(), [], "twice is once");
}

#[test]
fn a_single_plugin_is_set_aside_for_a_list_and_put_back() {
    let node = Node::with(&[("10-bridge.conf", BRIDGE)]);
    let before = node.everything();
    install(&node.options).unwrap();
    assert_eq!(node.plugins("10-bridge.conflist"), ["bridge", NAME]);
    assert!(!node.path("10-bridge.conf").exists(), "the runtime would take it first");
    assert_eq!(install(&node.options).unwrap(), []);
    // Its own installer writes it anew: chained again.
    let newer = BRIDGE.replace("cni0", "cni1");
    fs::write(node.path("10-bridge.conf"), &newer).unwrap();
    install(&node.options).unwrap();
    assert!(fs::read_to_string(node.path("10-bridge.conflist")).unwrap().contains("cni1"));
    fs::write(node.path("10-bridge.conf.canopy-saved"), BRIDGE).unwrap();
    fs::write(
        node.path("10-bridge.conflist"),
        fs::read_to_string(node.path("10-bridge.conflist")).unwrap().replace("cni1", "cni0"),
    )
    .unwrap();
    node.uninstall();
    assert_eq!(node.everything(), before);
}

#[test]
fn a_list_into_which_others_have_chained_themselves_stays_without_this_plugin() {
    let node = Node::with(&[("10-bridge.conf", BRIDGE)]);
    install(&node.options).unwrap();
    let path = node.path("10-bridge.conflist");
    let mut list: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    list["plugins"].as_array_mut().unwrap().push(json!({"type": "istio-cni"}));
    fs::write(&path, list.to_string()).unwrap();
    assert_eq!(install(&node.options).unwrap(), [], "there is no fight for the last place");
    node.uninstall();
    assert_eq!(node.plugins("10-bridge.conflist"), ["bridge", "istio-cni"]);
    assert_eq!(fs::read_dir(&node.options.conf_dir).unwrap().count(), 1);
}

#[test]
fn a_list_that_is_somebody_elses_is_not_written_over() {
    let node = Node::with(&[("10-bridge.conf", BRIDGE), ("10-bridge.conflist", CALICO)]);
    let before = node.everything();
    let error = install(&node.options).unwrap_err();
    assert!(matches!(error, InstallError::Both { .. }), "{error}");
    assert_eq!(fs::read(node.path("10-bridge.conflist")).unwrap(), before[&node.path("10-bridge.conflist")]);
}

#[test]
fn behind_multus_it_is_chained_into_the_network_that_multus_takes() {
    let node = Node::with(&[("00-multus.conf", MULTUS), ("10-calico.conflist", CALICO)]);
    install(&node.options).unwrap();
    assert_eq!(fs::read_to_string(node.path("00-multus.conf")).unwrap(), MULTUS);
    assert_eq!(node.plugins("10-calico.conflist").last().map(String::as_str), Some(NAME));
    let named = Node::with(&[("00-a.conflist", CALICO), ("10-b.conflist", CALICO)]);
    let options = Options { conf_name: Some("10-b.conflist".to_owned()), ..named.options.clone() };
    install(&options).unwrap();
    assert_eq!((named.plugins("00-a.conflist").len(), named.plugins("10-b.conflist").len()), (2, 3));
}

#[test]
fn what_is_broken_or_not_there_is_said_and_nothing_is_touched() {
    for (name, text, expected) in [
        ("10-x.conflist", "{\"plugins\":[", "it is no JSON object"),
        ("10-x.conflist", r#"{"cniVersion":"0.2.0","plugins":[{"type":"x"}]}"#, "cniVersion is 0.2.0"),
        ("10-x.conf", "{}", "neither `plugins` nor"),
    ] {
        let node = Node::with(&[(name, text), ("20-calico.conflist", CALICO)]);
        let error = install(&node.options).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(expected), "{error}");
        assert_eq!(fs::read_to_string(node.path(name)).unwrap(), text);
        assert_eq!(
            fs::read_to_string(node.path("20-calico.conflist")).unwrap(),
            CALICO,
            "the runtime does not take it"
        );
    }
    let node = Node::with(&[("00-multus.conf", MULTUS)]);
    assert!(matches!(install(&node.options), Err(InstallError::NoNetwork { .. })));
    let options = Options { conf_name: Some("10-x.conflist".to_owned()), ..node.options.clone() };
    assert!(matches!(install(&options), Err(InstallError::NoSuchNetwork { .. })));
    fs::write(node.directory.path().join("account/token"), "\n").unwrap();
    assert!(install(&node.options).unwrap_err().to_string().contains("token"));
}

#[test]
fn what_others_overwrite_is_found_and_mended() {
    let node = Node::with(&[("10-calico.conflist", CALICO)]);
    install(&node.options).unwrap();
    let all = node.everything();
    let binary = node.options.bin_dir.join(NAME);
    let spoil: [(&str, &dyn Fn()); 7] = [
        ("the network written anew", &|| fs::write(node.path("10-calico.conflist"), CALICO).unwrap()),
        ("the plugin gone", &|| fs::remove_file(&binary).unwrap()),
        ("the plugin another's of that length", &|| fs::write(&binary, "not program").unwrap()),
        ("the plugin not to be run", &|| {
            fs::set_permissions(&binary, fs::Permissions::from_mode(0o644)).unwrap()
        }),
        ("the kubeconfig gone", &|| fs::remove_file(node.path(account::KUBECONFIG)).unwrap()),
        ("the kubeconfig everybody's", &|| {
            fs::set_permissions(node.path(account::KUBECONFIG), fs::Permissions::from_mode(0o644)).unwrap();
        }),
        ("the roots others'", &|| fs::write(node.path(account::ROOTS), "x").unwrap()),
    ];
    for (what, spoil) in spoil {
        spoil();
        assert_eq!(install(&node.options).unwrap().len(), 1, "{what}");
        assert_eq!(node.everything(), all, "{what}");
    }
    // A token that was renewed.
    fs::write(node.directory.path().join("account/token"), "def").unwrap();
    assert_eq!(install(&node.options).unwrap(), [Change::Wrote(node.path(account::KUBECONFIG))]);
}

#[test]
fn a_new_network_before_the_first_is_the_one_from_then_on_and_both_are_cleared() {
    let node = Node::with(&[("10-calico.conflist", CALICO)]);
    install(&node.options).unwrap();
    fs::write(node.path("05-cilium.conflist"), CALICO.replace("calico", "cilium")).unwrap();
    assert_eq!(install(&node.options).unwrap(), [Change::Chained(node.path("05-cilium.conflist"))]);
    node.uninstall();
    for name in ["05-cilium.conflist", "10-calico.conflist"] {
        assert_eq!(node.plugins(name).len(), 2, "{name}");
    }
}

#[test]
fn a_network_that_is_a_link_stays_one() {
    let node = Node::with(&[]);
    let target = node.directory.path().join("real.conflist");
    fs::write(&target, CALICO).unwrap();
    std::os::unix::fs::symlink(&target, node.path("10-calico.conflist")).unwrap();
    install(&node.options).unwrap();
    assert!(fs::symlink_metadata(node.path("10-calico.conflist")).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains(NAME));
}

#[tokio::test]
async fn while_it_is_watched_it_is_mended_within_moments_and_an_end_leaves_it() {
    let node = Node::with(&[]);
    let (options, path) = (node.options.clone(), node.path("10-calico.conflist"));
    let keeping = tokio::spawn(async move { watch::keep(&options).await });
    let chained = || fs::read_to_string(&path).is_ok_and(|text| text.contains(NAME));
    let until_chained = async |what: &str| {
        let wait = async {
            while !chained() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Well within the period: by the change itself.
        tokio::time::timeout(Duration::from_secs(6), wait).await.unwrap_or_else(|_| panic!("{what}"));
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    fs::write(&path, CALICO).unwrap();
    until_chained("the network plugin comes later").await;
    fs::write(&path, CALICO).unwrap();
    until_chained("it is overwritten").await;
    keeping.abort();
    assert!(chained());
}

#[test]
fn a_directory_of_the_daemons_is_emptied_and_nothing_that_a_link_in_it_leads_to() {
    let directory = tempfile::tempdir().unwrap();
    let (state, elsewhere) = (directory.path().join("state"), directory.path().join("elsewhere"));
    for folder in [&state.join("discovery"), &elsewhere] {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("kept"), "x").unwrap();
    }
    fs::write(state.join("namespaces.json"), "{}").unwrap();
    std::os::unix::fs::symlink(&elsewhere, state.join("link")).unwrap();
    let mut removed = empty(&state).unwrap();
    removed.sort_by_key(ToString::to_string);
    let names = ["discovery", "link", "namespaces.json"];
    assert_eq!(removed, names.map(|name| Change::Removed(state.join(name))));
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    assert!(elsewhere.join("kept").exists());
    assert_eq!(empty(&state).unwrap(), [], "twice is once");
    assert_eq!(empty(&directory.path().join("never")).unwrap(), []);
}
