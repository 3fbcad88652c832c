//! What a killed daemon leaves is found by the next one of its name, whichever way either steers and however its pins are
//! laid out; and where nobody starts under that name again, the operator is told.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use e2e::{HTTP, Origin, Stage, Vip, built, files_of, rules_of};
use rustix::process::Signal;
use testkit::{Daemon, KitError, Options, Outcome, Pod, http, manifests::Manifests};

/// More than a busy machine needs, and less than a drain may take by default: one that hangs is seen.
const PATIENCE: Duration = Duration::from_secs(25);

/// A caller and a server, and what is in their namespaces without a daemon.
struct Scene {
    origin: Origin,
    client: Pod,
    web: Pod,
    vip: Vip,
    rules: [std::collections::BTreeSet<String>; 2],
    stage: Stage,
}

impl Scene {
    fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stage = Stage::new()?;
        let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
        let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
        let origin = Origin::start(&web, 80)?;
        let rules = [rules_of(&client)?, rules_of(&web)?];
        Ok(Self { origin, client, web, vip, rules, stage })
    }

    fn daemon(&self, instance: &str, redirect: &str) -> Result<Daemon, KitError> {
        self.told(self.stage.manifests.path(), instance, redirect)
    }

    fn told(&self, config: &Path, instance: &str, redirect: &str) -> Result<Daemon, KitError> {
        let options =
            Options { redirect: redirect.into(), instance: Some(instance.into()), ..Options::default() };
        Daemon::start_with(&self.stage.node, config, &options)
    }

    /// A daemon that serves, and is killed: the pods are cut off.
    fn leave(&self, instance: &str, redirect: &str) -> Outcome {
        let mut daemon = self.daemon(instance, redirect)?;
        self.assert_served(&daemon);
        daemon.process().signal(Signal::KILL);
        daemon.process().wait(PATIENCE).ok_or("a killed process ends")?;
        assert!(self.direct().is_none(), "cut off, or this test shows nothing");
        Ok(())
    }

    /// Through the Service's address, and from the node.
    fn assert_served(&self, daemon: &Daemon) {
        let seen = self.origin.seen().len();
        let captured = http::get(&self.client, self.vip.at(80), "web", "/").map(|answer| answer.status);
        assert!(captured.as_ref().is_ok_and(|status| *status == 200), "{captured:?} {}", daemon.output());
        assert_eq!(self.inbound(), Some(200), "{}", daemon.output());
        assert_eq!(self.origin.seen().len(), seen + 2);
    }

    /// What the server's own address answers to the caller.
    fn direct(&self) -> Option<u16> {
        http::get(&self.client, self.web.at(80), "web", "/").ok().map(|answer| answer.status.as_u16())
    }

    /// What it answers to the node.
    fn inbound(&self) -> Option<u16> {
        let node = self.stage.node.netns();
        http::get_inside(node, self.web.at(80), "web", "/").ok().map(|answer| answer.status.as_u16())
    }

    fn end(&self, mut daemon: Daemon, instance: &str) -> Outcome {
        daemon.process().signal(Signal::TERM);
        let ended = daemon.process().wait(PATIENCE);
        assert_eq!(ended.and_then(|status| status.code()), Some(0), "{}", daemon.output());
        assert!(files_of(instance).is_empty(), "{:?}", files_of(instance));
        assert_eq!([rules_of(&self.client)?, rules_of(&self.web)?], self.rules);
        assert_eq!((self.direct(), self.inbound()), (Some(200), Some(200)), "as if there had been no daemon");
        Ok(())
    }
}

#[test]
fn hooks_of_a_killed_daemon_are_cleared_by_one_that_steers_by_iptables() -> Outcome {
    let (scene, instance) = (Scene::new()?, name("hooks"));
    scene.leave(&instance, "ebpf")?;
    let daemon = scene.daemon(&instance, "iptables")?;
    scene.assert_served(&daemon);
    assert!(daemon.output().contains("cleared the hooks that an earlier daemon left"), "{}", daemon.output());
    scene.end(daemon, &instance)
}

#[test]
fn rules_of_a_killed_daemon_are_cleared_by_one_that_steers_by_hooks() -> Outcome {
    let (scene, instance) = (Scene::new()?, name("rules"));
    scene.leave(&instance, "iptables")?;
    let daemon = scene.daemon(&instance, "ebpf")?;
    scene.assert_served(&daemon);
    for pod in ["shop/client", "shop/web"] {
        let cleared = format!("clearing the rules that an earlier run left pod=\"{pod}\"");
        assert!(daemon.output().contains(&cleared), "{}", daemon.output());
    }
    scene.end(daemon, &instance)
}

#[test]
fn hooks_of_a_killed_daemon_of_another_layout_are_cleared_whichever_way_the_next_one_steers() -> Outcome {
    let scene = Scene::new()?;
    for redirect in ["auto", "iptables"] {
        let instance = name(&format!("layout-{redirect}"));
        scene.leave(&instance, "ebpf")?;
        let folder = PathBuf::from(format!("/sys/fs/bpf/canopy/v{}", 1_000_000 + std::process::id()));
        fs::create_dir_all(&folder)?;
        fs::rename(pins(&instance)?, folder.join(&instance))?;
        let daemon = scene.daemon(&instance, redirect)?;
        scene.assert_served(&daemon);
        assert!(
            daemon.output().contains("cleared the hooks that an earlier daemon left"),
            "{}",
            daemon.output()
        );
        scene.end(daemon, &instance)?;
        assert!(!folder.exists(), "nor is the layout's folder left");
    }
    Ok(())
}

#[test]
fn dead_daemon_of_another_name_is_named_with_what_clears_it_and_that_does() -> Outcome {
    let scene = Scene::new()?;
    let nobody = Manifests::new()?;
    for redirect in ["ebpf", "iptables"] {
        let instance = name(&format!("dead-{redirect}"));
        scene.leave(&instance, redirect)?;
        let other = scene.told(nobody.path(), &name("other"), "auto")?;
        let said = other.output();
        let warning = said.lines().find(|line| line.contains("WARN") && line.contains(&instance));
        assert!(
            warning.is_some_and(|line| line.contains(&format!("canopy release --instance {instance}"))),
            "{said}"
        );
        drop(other);
        let look = look_at(&instance)?.ok_or("it is not among what was looked at")?;
        assert_eq!(look["state"], "degraded", "{look}");
        assert!(look["detail"].as_str().is_some_and(|detail| detail.contains("2 pods")), "{look}");
        let remedy = format!("canopy run --instance {instance} --config DIR");
        assert!(look["remedy"].as_str().is_some_and(|text| text.contains(&remedy)), "{look}");
        assert_eq!(scene.direct(), None, "nobody has touched it so far");

        let daemon = scene.told(nobody.path(), &instance, "auto")?;
        assert_eq!((scene.direct(), scene.inbound()), (Some(200), Some(200)), "{}", daemon.output());
        assert_eq!(look_at(&instance)?, None, "nobody is dead who lives");
        scene.end(daemon, &instance)?;
    }
    Ok(())
}

/// What `canopy check` says of an instance.
fn look_at(instance: &str) -> Result<Option<serde_json::Value>, Box<dyn std::error::Error + Send + Sync>> {
    let output = Command::new(built("canopy")).args(["check", "--json"]).output()?;
    let looks: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    Ok(looks.into_iter().find(|look| look["name"] == format!("instance {instance}")))
}

/// Where the pins of an instance are.
fn pins(instance: &str) -> Result<PathBuf, Box<dyn std::error::Error + Send + Sync>> {
    let layouts = fs::read_dir("/sys/fs/bpf/canopy")?.flatten();
    let found = layouts.map(|layout| layout.path().join(instance)).find(|path| path.is_dir());
    Ok(found.ok_or("there are no pins")?)
}

/// A name for an instance that no other test or run uses; the testkit sweeps what a killed run leaves of it.
fn name(what: &str) -> String {
    format!("kit-{}-{what}", std::process::id())
}
