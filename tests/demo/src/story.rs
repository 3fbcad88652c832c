//! The demo, step by step: the pods, the daemon, calls, the forest, the three edits, and a second node.

use std::time::{Duration, SystemTime};

use testkit::{Daemon, Options, Traffic, manifests::Manifests};

use crate::{
    Arguments,
    cast::{CART, Cast},
    error::DemoError,
    evidence,
    lock::Lock,
    screen::Screen,
    stop::Stop,
};

mod calls;
mod edits;
mod wire;

/// What the steps share. Fields are dropped in this order: traffic ends before the daemon, the daemon before
/// the pods, and the lock goes last.
pub(crate) struct Stage<'a> {
    traffic: Traffic,
    daemon: Daemon,
    manifests: Manifests,
    cast: Cast,
    _lock: Lock,
    screen: &'a Screen,
    stop: &'a Stop,
    /// How long something is shown that could be seen in a moment.
    watch: Duration,
}

/// Tells it.
pub(crate) fn tell(arguments: &Arguments, screen: &Screen, stop: &Stop) -> Result<(), DemoError> {
    let began = SystemTime::now();
    screen.line("Canopy: one proxy for all pods of a node, and a cell of its own for every tenant.");
    let lock = Lock::take()?;
    let cast = pods(screen)?;
    stop.check()?;
    let manifests = Manifests::copy_of(&arguments.config)?;
    let daemon = daemon(arguments, &cast, &manifests, screen)?;
    stop.check()?;
    calls::show(&cast, &daemon, screen, stop)?;
    let traffic = Traffic::paced(&cast.frontend, (CART, "cart.shop"), PACE)?;
    let watch = Duration::from_millis(if arguments.quick { 1_000 } else { 5_000 });
    let stage = Stage { traffic, daemon, manifests, cast, _lock: lock, screen, stop, watch };
    stage.forest()?;
    stage.shift_split()?;
    stage.break_configuration()?;
    stage.add_and_remove_a_pod()?;
    let far = stage.second_daemon(arguments)?;
    stage.tunnel_on_the_wire()?;
    stage.denied_caller(&far)?;
    if arguments.hold {
        stage.hold()?;
    }
    drop((far, stage));
    // A clock that was set back meanwhile is no reason to fail.
    let took = began.elapsed().unwrap_or_default().as_secs();
    screen.heading(&format!("Done in {took} s; pods, daemons and hooks are gone again"));
    screen.quote(EXPLORE);
    Ok(())
}

fn pods(screen: &Screen) -> Result<Cast, DemoError> {
    screen.heading("1. Five pods of two tenants, each a network namespace with a real server");
    let cast = Cast::assemble()?;
    for (pod, what) in cast.pods() {
        let name = format!("{}/{}", pod.namespace(), pod.name());
        screen.fact(&name, &format!("{:<12} {:<9} {what}", pod.v4().to_string(), pod.v6().to_string()));
    }
    Ok(cast)
}

fn daemon(
    arguments: &Arguments,
    cast: &Cast,
    manifests: &Manifests,
    screen: &Screen,
) -> Result<Daemon, DemoError> {
    screen.heading(&format!("2. The daemon: canopy run --config {}", arguments.config.display()));
    let options = Options {
        redirect: arguments.redirect.clone(),
        // Always the same, so that what a killed demo left is adopted and then removed.
        instance: Some("demo".into()),
        arguments: vec!["--node".into(), "node-a".into()],
        ..Options::default()
    };
    let began = SystemTime::now();
    let daemon = Daemon::start_with(&cast.node, manifests.path(), &options)?;
    let took = began.elapsed().unwrap_or_default().as_millis();
    let memory = evidence::resident_mib(daemon.pid())
        .map_or_else(|| "unknown".into(), |mib| format!("{mib:.1} MiB resident"));
    let build = if cfg!(debug_assertions) { " (a debug build)" } else { "" };
    screen.held(&format!("ready after {took} ms, process {}, {memory}{build}", daemon.pid()));
    Ok(daemon)
}

impl Stage<'_> {
    fn forest(&self) -> Result<(), DemoError> {
        self.screen.heading("4. The forest, while requests run: canopy tree");
        self.stop.sleep(Duration::from_millis(500))?;
        // A cell that is busy does not answer at once.
        self.stop.wait_until(PATIENCE, || {
            evidence::ask(&self.daemon, "tree")
                .is_ok_and(|tree| self.cast.pods().all(|(pod, _)| tree.contains(pod.name())))
        })?;
        let tree = evidence::ask(&self.daemon, "tree")?;
        self.screen.quote(&tree);
        for (pod, _) in self.cast.pods() {
            crate::error::claim(tree.contains(pod.name()), format!("{} is in the tree", pod.name()), || {
                tree.clone()
            })?;
        }
        Ok(())
    }

    /// Leaves it running, for a viewer with a second terminal.
    fn hold(&self) -> Result<(), DemoError> {
        let socket = self.daemon.admin_socket();
        let socket = socket.display();
        self.screen.heading("All of it stays until Ctrl-C. In another terminal:");
        self.screen.quote(&format!(
            "target/debug/canopy tree --watch 1 --admin-socket {socket}\n\
             target/debug/canopy trace --admin-socket {socket}\n\
             ip netns exec canopy-demo-frontend curl -si http://10.96.0.10/echo\n\
             ip netns exec canopy-demo curl -s http://127.0.0.1:15020/metrics\n\
             edit {}/20-shop-route.yaml and see the split follow",
            self.manifests.path().display()
        ));
        let stop = self.stop.patient();
        loop {
            let before = self.traffic.tally();
            if stop.sleep(Duration::from_millis(500)).is_err() {
                return Ok(());
            }
            let lately = self.traffic.tally().since(&before);
            self.screen.fleeting(&format!("  {}", self.screen.bar(&lately.parts())));
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
/// About 250 requests a second.
const PACE: Duration = Duration::from_millis(3);
const EXPLORE: &str = "\
make demo HOLD=1                         the same, left running for a second terminal
target/debug/canopy --help               every verb, with examples
target/debug/canopy validate examples/two-tenants
make test                                the proof";
