//! `canopy explain`: which objects of which owner decide a request, stage by stage.
//!
//! Asks the running daemon, or compiles a directory as it would; what is told is decided by `explain`, which asks the data path's own
//! functions.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use config::name::ClusterDomain;

use super::{
    Daemon, Outcome, complain,
    offline::{self, Reading},
    runtime,
    style::{self, Palette},
};
use crate::{
    admin::client,
    control::compile::Compiler,
    explain::{Ask, Question, World, explain, told::Explanation},
};

mod text;

/// Tell which objects of which owner decide a request, stage by stage, and what becomes of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy explain --from shop/frontend --to cart.shop:80
  canopy explain --from shop/frontend --to cart.shop:80 --path /beta --header x-beta:yes
  canopy explain --from shop/frontend --to cart.shop:9090 --grpc shop.v1.Cart/AddItem
                                        a call of gRPC, by the GRPCRoutes of the port
  canopy explain --from bank/ledger --to 10.77.0.13:8080
                                        by address: of a Service, of a pod, or outside the mesh
  canopy explain --config examples/two-tenants --from shop/frontend --to cart.shop:80
                                        without a daemon, as one would decide that reads these files
  canopy explain --from shop/frontend --to cart.shop:80 --json | jq .verdict

Asks the daemon of this node what is in force there; with --config it asks nobody. Nothing is sent anywhere. What only a running cell
knows is not told: which endpoints are ejected just now, and what a budget has left. The last line is the verdict.

Exit code 0: it would be carried, or answered as a route says; 1: it would be refused, some of its kind would be, or there is nothing to
tell; 2: the command line was wrong.")]
pub(super) struct Explain {
    #[command(flatten)]
    daemon: Daemon,
    /// The pod that calls.
    #[arg(long, value_name = "NAMESPACE/POD")]
    from: String,
    /// Where to: a Service by name (cart, cart.shop, cart.shop.svc, cart.shop.svc.cluster.local) or address, a pod's address, or any other.
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// The path of the request, with its query [default: /].
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Its method [default: GET].
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// A call of gRPC: a POST with this as its path, and gRPC's content type.
    #[arg(long, value_name = "SERVICE/METHOD", conflicts_with_all = ["path", "method"])]
    grpc: Option<String>,
    /// A header of it; may be repeated.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Decide by the manifests of this directory instead of asking a daemon.
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    /// Without a daemon: what the names of the cluster's Services end in.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Print JSON instead.
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> Outcome {
        let ask = self.ask();
        let question = match ask.question() {
            Ok(question) => question,
            Err(error) => {
                complain(&error.to_string());
                return Ok(ExitCode::from(2));
            }
        };
        let explanation = match &self.config {
            Some(directory) => self.offline(directory, &question)?,
            None => {
                let target = format!("/explain?{}", ask.query());
                runtime()?.block_on(client::get(&self.daemon.socket(), &target))?
            }
        };
        let text = if self.json {
            style::json(&explanation)?
        } else {
            text::render(&explanation, Palette::of_stdout())
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(if explanation.verdict.outcome.is_served() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn ask(&self) -> Ask {
        let Self { from, to, path, method, headers, .. } = self;
        let (from, to, headers) = (from.clone(), to.clone(), headers.iter().cloned());
        match &self.grpc {
            Some(call) => Ask::of_call(from, to, call, headers),
            None => Ask { from, to, path: path.clone(), method: method.clone(), headers: headers.collect() },
        }
    }

    fn offline(
        &self,
        directory: &Path,
        question: &Question,
    ) -> Result<Explanation, Box<dyn std::error::Error>> {
        let options = self.reading.options()?;
        let domain = ClusterDomain::try_from(self.cluster_domain.clone())?;
        let outcome = offline::read(directory, options.clone())?;
        let rejected = offline::rejected(&outcome);
        if rejected > 0 {
            complain(&format!(
                "{rejected} findings of {} reject something: `canopy validate` tells",
                directory.display()
            ));
        }
        let world = World {
            mesh: &outcome.mesh,
            snapshots: &Compiler::new().seen_from(options.here()).compile(&outcome.mesh),
            basis: &outcome.basis,
            waiting: &BTreeMap::new(),
            node: options.node.as_ref(),
            domain: &domain,
        };
        Ok(explain(world, question)?)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{
        super::{Cli, Verb},
        *,
    };

    /// The two examples together, in a directory of their own: the policies are for the pods of the other.
    fn examples() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        for name in ["two-tenants", "policies"] {
            for entry in std::fs::read_dir(shipped.join(name)).unwrap() {
                let path = entry.unwrap().path();
                std::fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        directory
    }

    /// What is told of a request by the files of a directory, without its name.
    fn told(directory: &Path, more: &[&str]) -> String {
        let config = directory.to_str().unwrap();
        let words = ["canopy", "explain", "--node", "node-a", "--config", config];
        let words = words.into_iter().chain(more.iter().copied());
        let Verb::Explain(verb) = Cli::try_parse_from(words).unwrap().verb else { panic!("another verb") };
        let explanation = verb.offline(directory, &verb.ask().question().unwrap()).unwrap();
        text::render(&explanation, Palette::plain()).replace(&format!("{config}/"), "")
    }

    #[test]
    fn the_example_of_two_tenants_is_told_with_the_producers_route_and_its_weights() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/two-tenants");
        let expected = "\
shop/frontend → cart.shop:80  GET /  (configuration 1)

caller       10.77.0.11 and fd77::11, of tenant shop, speaks as spiffe://cluster.local/ns/shop/sa/frontend
               Pod shop/frontend of shop, 10-shop.yaml:18
destination  cart.shop is 10.96.0.10; 10.96.0.10:80 is port 80 of Service shop/cart
               Service shop/cart of shop, 10-shop.yaml:77
protocol     HTTP: port 80 of Service shop/cart declares it
route        rule split of HTTPRoute shop/cart: it takes every request
               HTTPRoute shop/cart of shop, 20-shop-route.yaml:3
             the producer's: Service shop/cart's own namespace routes all its callers
             tried before, not met: rule beta of HTTPRoute shop/cart: header x-beta = yes is asked for, it is not there
filters      answered within 10s
backend      90 of 100 requests: Service shop/cart-v1 port 80
               Service shop/cart-v1 of shop, 10-shop.yaml:90
             ready at IPv6, too: 1; a connection by IPv4 goes to IPv4
endpoint     10.77.0.12:8080 (shop/cart-v1): direct (same_tenant: same node, same tenant)
               Pod shop/cart-v1 of shop, 10-shop.yaml:35
receiver     lets in spiffe://cluster.local/ns/shop/sa/frontend: no AuthorizationPolicy limits who may come in
             asked first: PeerAuthentication; plaintext would be taken at port 8080, too
backend      10 of 100 requests: Service shop/cart-v2 port 80
               Service shop/cart-v2 of shop, 10-shop.yaml:100
             ready at IPv6, too: 1; a connection by IPv4 goes to IPv4
endpoint     10.77.0.13:8080 (shop/cart-v2): direct (same_tenant: same node, same tenant)
               Pod shop/cart-v2 of shop, 10-shop.yaml:55
receiver     lets in spiffe://cluster.local/ns/shop/sa/frontend: no AuthorizationPolicy limits who may come in
             asked first: PeerAuthentication; plaintext would be taken at port 8080, too

verdict      carried: 90 of 100 requests: 10.77.0.12:8080 (shop/cart-v1), direct; 10 of 100 requests: 10.77.0.13:8080 (shop/cart-v2), direct
";
        assert_eq!(told(&shipped, &["--from", "shop/frontend", "--to", "cart.shop:80"]), expected);
    }

    #[test]
    fn a_call_of_grpc_is_told_by_the_rule_of_its_method() {
        let directory = examples();
        let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: calls, namespace: shop}\nspec:\n\
            \x20 parentRefs: [{group: '', kind: Service, name: cart}]\n\
            \x20 rules: [{matches: [{method: {service: shop.v1.Cart, method: Add}}], backendRefs: [{name: cart-v2, port: 80}]}]\n";
        std::fs::write(directory.path().join("20-shop-route.yaml"), route).unwrap();
        let asked = |call| ["--from", "shop/frontend", "--to", "cart.shop:80", "--grpc", call];
        let text = told(directory.path(), &asked("shop.v1.Cart/Add"));
        assert!(text.starts_with("shop/frontend → cart.shop:80  POST /shop.v1.Cart/Add  "), "{text}");
        assert!(
            text.contains("rules[0] of GRPCRoute shop/calls: method Add of gRPC service shop.v1.Cart"),
            "{text}"
        );
        let text = told(directory.path(), &asked("shop.v1.Cart/Remove"));
        assert!(text.contains("verdict      refused (no_route)"), "{text}");
        let both = ["canopy", "explain", "--from", "a/b", "--to", "c:1", "--grpc", "s/m", "--path", "/"];
        assert!(Cli::try_parse_from(both).is_err());
    }

    #[test]
    fn the_example_of_policies_is_told_with_who_refuses_and_the_last_line_is_the_verdict() {
        let directory = examples();
        for (from, to, expected) in [
            (
                "shop/frontend",
                "ledger.bank:9090",
                "verdict      carried: 10.77.0.21:9090 (bank/ledger), handoff",
            ),
            (
                "shop/frontend",
                "vault.bank:6379",
                "verdict      refused (policy_denied): bank/vault does not let it in: AuthorizationPolicy bank/vault-not-from-shop denies it. \
                 By AuthorizationPolicy bank/vault-not-from-shop of bank, policies.yaml:33. \
                 To have it carried, bank would have to take spiffe://cluster.local/ns/shop/sa/frontend out of rules[0] of AuthorizationPolicy bank/vault-not-from-shop",
            ),
            (
                "shop/frontend",
                "archive.bank:80",
                "verdict      refused (no_policy_allows): bank/archive does not let it in: no AuthorizationPolicy allows it; bank/archive-is-for-the-ledger is one that would have to. \
                 By AuthorizationPolicy bank/archive-is-for-the-ledger of bank, 50-archive.yaml:48. \
                 To have it carried, bank would have to add a rule that allows spiffe://cluster.local/ns/shop/sa/frontend at port 8080 to AuthorizationPolicy bank/archive-is-for-the-ledger, or to another with ALLOW for the same pods",
            ),
            (
                "bank/ledger",
                "archive.bank:80",
                "verdict      carried: 10.77.1.31:8080 (bank/archive), tunnel",
            ),
        ] {
            let text = told(directory.path(), &["--from", from, "--to", to]);
            assert_eq!(text.lines().last(), Some(expected), "{text}");
        }
    }
}
