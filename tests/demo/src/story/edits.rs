//! Steps 5 to 7: edits of the live configuration while requests run: a split shifted, a broken edit, a pod that
//! comes and goes. The failures of the background traffic are claimed to be none in each.

use std::time::Duration;

use testkit::Tally;

use crate::{
    cast::RECRUIT,
    error::{DemoError, claim},
    story::Stage,
};

impl Stage<'_> {
    pub(super) fn shift_split(&self) -> Result<(), DemoError> {
        self.screen.heading("5. A live edit: the split of cart.shop from 90:10 to 10:90, while requests run");
        let before = self.watch("before", ENOUGH)?;
        let route = self.manifests.read(ROUTE)?;
        let shifted = route
            .replace("name: cart-v1, port: 80, weight: 90", "name: cart-v1, port: 80, weight: 10")
            .replace("name: cart-v2, port: 80, weight: 10", "name: cart-v2, port: 80, weight: 90");
        claim(shifted != route, format!("{ROUTE} has the weights 90 and 10"), || route.clone())?;
        self.manifests.write(ROUTE, &shifted)?;
        self.stop.wait_until(EFFECT, || {
            let lately = self.lately();
            lately.of("cart-v2") > lately.of("cart-v1")
        })?;
        let after = self.watch("after", ENOUGH)?;
        let share = |tally: &Tally| tally.of("cart-v2") as f64 / tally.total() as f64;
        let followed = (0.03..0.18).contains(&share(&before)) && (0.82..0.97).contains(&share(&after));
        claim(followed, "the split follows the edit", || format!("before {before:?}\nafter {after:?}"))?;
        self.screen.held("the split followed the edit, without a restart");
        Ok(())
    }

    pub(super) fn break_configuration(&self) -> Result<(), DemoError> {
        self.screen.heading("6. A broken edit: `weight: ninety`, while requests run");
        let good = self.manifests.read(ROUTE)?;
        let broken = good.replacen("weight: 10", "weight: ninety", 1);
        let line = broken.lines().position(|line| line.contains("ninety")).map_or(0, |index| index + 1);
        let heard = self.daemon.output().len();
        let place = format!("{ROUTE}:{line}");
        self.manifests.write(ROUTE, &broken)?;
        let said = || {
            let output = self.daemon.output();
            let fresh = output.get(heard..).unwrap_or_default();
            fresh.lines().find(|line| line.contains(&place)).map(str::to_owned)
        };
        let rejected = self.stop.wait_until(EFFECT, || said().is_some())?;
        claim(rejected, format!("the daemon names {place}"), || self.daemon.output())?;
        self.screen.quote(&said().unwrap_or_default());
        let meanwhile = self.watch("meanwhile", 1)?;
        claim(
            meanwhile.of("cart-v2") > meanwhile.of("cart-v1"),
            "the last good version stays in force",
            || format!("{meanwhile:?}"),
        )?;
        self.manifests.write(ROUTE, &good)?;
        self.screen.held(&format!("rejected with its line ({line}); the last good version stayed in force"));
        Ok(())
    }

    pub(super) fn add_and_remove_a_pod(&self) -> Result<(), DemoError> {
        self.screen.heading(&format!("7. A pod comes and goes: shop/{RECRUIT}, while requests run"));
        let (pod, server) = self.cast.recruit()?;
        self.manifests.write(RECRUIT_FILE, &recruit_manifest())?;
        let joined = self.stop.wait_until(EFFECT, || self.traffic.tally().of(RECRUIT) > 0)?;
        claim(joined, format!("{RECRUIT} gets requests once its manifest is there"), || {
            self.daemon.output()
        })?;
        let with = self.watch("with it", FEW)?;
        claim(with.of(RECRUIT) > 0, format!("{RECRUIT} shares the load"), || format!("{with:?}"))?;
        self.manifests.remove(RECRUIT_FILE)?;
        let left = self.stop.wait_until(EFFECT, || self.lately().of(RECRUIT) == 0)?;
        claim(left, format!("{RECRUIT} gets no more requests once its manifest is gone"), || {
            self.daemon.output()
        })?;
        drop((server, pod));
        let without = self.watch("without it", FEW)?;
        claim(without.of(RECRUIT) == 0, "nothing goes to a pod that is gone", || format!("{without:?}"))?;
        self.screen.held("it took its share and left, and no request was lost");
        Ok(())
    }

    /// What was answered in the next moment; on a busy machine that takes longer.
    fn lately(&self) -> Tally {
        let from = self.traffic.tally();
        for moment in 0..MOMENTS {
            std::thread::sleep(2 * FRAME);
            let lately = self.traffic.tally().since(&from);
            if lately.total() >= FEW || moment + 1 == MOMENTS {
                return lately;
            }
        }
        Tally::default()
    }

    /// Watches the traffic for a while, and on a busy machine until there were so many answers; none of it may fail.
    fn watch(&self, label: &str, enough: u64) -> Result<Tally, DemoError> {
        let from = self.traffic.tally();
        let frames = self.watch.as_millis() / FRAME.as_millis();
        for frame in 0..MOMENTS * frames {
            if frame >= frames && self.traffic.tally().since(&from).total() >= enough {
                break;
            }
            self.stop.sleep(FRAME)?;
            let bar = self.screen.bar(&self.traffic.tally().since(&from).parts());
            self.screen.fleeting(&format!("  {label:<11} {bar}"));
        }
        let seen = self.traffic.tally().since(&from);
        let bar = self.screen.bar(&seen.parts());
        let (answers, failures) = (seen.total(), seen.failures);
        self.screen.settle(&format!("  {label:<11} {bar}  ({answers} answers, {failures} failures)"));
        let all = self.traffic.tally();
        claim(all.failures == 0 && answers > 0, "no request fails", || {
            format!("{all:?}\n{}", self.daemon.output())
        })?;
        Ok(seen)
    }
}

fn recruit_manifest() -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {RECRUIT}\n  namespace: shop\n\
         \x20 labels: {{ app: cart, version: v2 }}\n\
         \x20 annotations: {{ canopy.mesh/netns: /run/netns/canopy-demo-{RECRUIT} }}\n\
         spec:\n  serviceAccountName: cart\n  nodeName: node-a\n  containers:\n  - name: server\n\
         \x20   ports: [{{ name: http, containerPort: 8080 }}]\n\
         status:\n  podIP: 10.77.0.14\n  podIPs: [{{ ip: 10.77.0.14 }}, {{ ip: \"fd77::14\" }}]\n"
    )
}

const ROUTE: &str = "20-shop-route.yaml";
const RECRUIT_FILE: &str = "40-shop-recruit.yaml";
/// What an edit may take on a busy machine.
const EFFECT: Duration = Duration::from_secs(30);
/// Answers that tell who answers at all.
const FEW: u64 = 40;
/// Answers that tell a share: five standard deviations of it are less than what is allowed.
const ENOUGH: u64 = 500;
/// How many times longer than usual is waited for them.
const MOMENTS: u128 = 20;
const FRAME: Duration = Duration::from_millis(100);
