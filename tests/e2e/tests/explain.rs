//! What `canopy explain` and `canopy diff` say of a running daemon is what that daemon does: each row is asked about, and done.

use std::{
    io::{Read, Write},
    net::SocketAddr,
};

use e2e::{HTTP, Origin, Stage, Vip, dial, end_of};
use serde_json::Value;
use testkit::{Daemon, KitError, Outcome, Pod, http, manifests::Manifests};

/// Callers and receivers of four tenants, in one mesh.
struct Scene {
    daemon: Daemon,
    client: Pod,
    bank: Pod,
    kept: Pod,
    excluded: Pod,
    safe: Pod,
    outside: Pod,
    web: Vip,
    ledger: Vip,
    _servers: [Origin; 4],
    _backends: [Pod; 2],
    stage: Stage,
}

const OUTSIDE: u16 = 7000;

/// The producer's rules: something for one path, a redirect for another, nothing for the rest.
const RULES: &str = "  - name: here\n    matches: [{path: {type: PathPrefix, value: /here}}]\n    backendRefs: [{name: old, port: 80}]\n\
    \x20 - name: moved\n    matches: [{path: {type: Exact, value: /moved}}]\n\
    \x20   filters: [{type: RequestRedirect, requestRedirect: {hostname: example.test, statusCode: 301}}]";

/// A route of the bank's own callers to the same Service.
const CONSUMER: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: mine, namespace: bank}\nspec:\n\
    \x20 parentRefs: [{group: '', kind: Service, name: web, namespace: shop}]\n\
    \x20 rules: [{name: mine, backendRefs: [{name: new, namespace: shop, port: 80}]}]\n";

const POLICIES: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: not-from-shop, namespace: vault}\n\
    spec: {action: DENY, rules: [{from: [{source: {namespaces: [shop]}}]}]}\n---\n\
    apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: strict, namespace: vault}\nspec: {mtls: {mode: STRICT}}\n";

const TENANT: &str = "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: kept}\nspec: {namespaces: [kept], egress: mesh}\n";

impl Scene {
    fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stage = Stage::new()?;
        let (client, bank) = (stage.pod("shop", "client", &[])?, stage.pod("bank", "caller", &[])?);
        let (kept, excluded) = (stage.pod("kept", "app", &[])?, stage.pod("bank", "excluded", &[])?);
        let (old, new) = (stage.pod("shop", "old", &[HTTP])?, stage.pod("shop", "new", &[HTTP])?);
        let (safe, outside) = (stage.pod("vault", "safe", &[HTTP])?, stage.node.pod("away", "outside")?);
        let web = stage.service(("shop", "web"), 10, &[HTTP], &[&old, &new])?;
        stage.service(("shop", "old"), 11, &[HTTP], &[&old])?;
        stage.service(("shop", "new"), 12, &[HTTP], &[&new])?;
        let ledger = stage.service(("vault", "safe"), 13, &[HTTP], &[&safe])?;
        stage.route("web", RULES)?;
        stage.manifests.write("mine.yaml", CONSUMER)?;
        stage.manifests.write("policies.yaml", POLICIES)?;
        stage.manifests.write("tenant.yaml", TENANT)?;
        // Past its own proxy to where the safe is.
        let text = stage.manifests.read("bank-excluded-pod.yaml")?;
        let around = format!("annotations: {{canopy.mesh/exclude-outbound-cidrs: \"{}/32\", ", safe.v4());
        stage.manifests.write("bank-excluded-pod.yaml", &text.replacen("annotations: {", &around, 1))?;
        let servers = [
            Origin::start(&old, 80)?,
            Origin::start(&new, 80)?,
            Origin::start(&safe, 80)?,
            Origin::start(&outside, OUTSIDE)?,
        ];
        let daemon = stage.daemon()?;
        Ok(Self {
            daemon,
            client,
            bank,
            kept,
            excluded,
            safe,
            outside,
            web,
            ledger,
            _servers: servers,
            _backends: [old, new],
            stage,
        })
    }

    /// What is told of a request, and the exit code.
    fn told(
        &self,
        from: &str,
        to: &str,
        path: &str,
    ) -> Result<(Value, Option<i32>), Box<dyn std::error::Error + Send + Sync>> {
        let words = ["explain", "--json", "--from", from, "--to", to, "--path", path];
        let output = self.daemon.canopy(&words)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let told = serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {said}"))?;
        Ok((told, output.status.code()))
    }
}

/// What a stage says first.
fn says<'a>(told: &'a Value, stage: &str) -> &'a str {
    let stages = told["stages"].as_array().map_or(&[][..], Vec::as_slice);
    let found = stages.iter().find(|one| one["stage"] == stage);
    found.and_then(|stage| stage["says"].as_str()).unwrap_or_default()
}

/// From whom, by which name, at which path; what the daemon answers (status, header, pod), and by whose rule.
type Row<'a> = (&'a Pod, &'a str, SocketAddr, &'a str, (u16, &'a str, &'a str), &'a str);

#[test]
fn what_is_told_of_a_request_is_what_becomes_of_it() -> Outcome {
    let scene = Scene::new()?;
    let (web, ledger) = (scene.web.at(80), scene.ledger.at(80));
    let rows: [Row<'_>; 6] = [
        (&scene.client, "web.shop", web, "/here/it/is", (200, "", "old"), "rule here of HTTPRoute shop/web"),
        (&scene.bank, "web.shop", web, "/here/it/is", (200, "", "new"), "rule mine of HTTPRoute bank/mine"),
        (&scene.client, "web.shop", web, "/elsewhere", (404, "no_route", ""), "none of 2 matches"),
        (&scene.bank, "web.shop", web, "/elsewhere", (200, "", "new"), "rule mine of HTTPRoute bank/mine"),
        (&scene.client, "web.shop", web, "/moved", (301, "", ""), "rule moved of HTTPRoute shop/web"),
        (&scene.client, "safe.vault", ledger, "/", (403, "policy_denied", ""), "no route is attached"),
    ];
    for (pod, name, address, path, (status, refused, by), rule) in rows {
        let from = format!("{}/{}", pod.namespace(), pod.name());
        let answer = http::get(pod, address, name, path)?;
        let done = (answer.status.as_u16(), answer.header("canopy-refused"), answer.header("x-pod"));
        assert_eq!(done, (status, refused, by), "{from} {name} {path}");
        for to in [format!("{name}:80"), address.to_string()] {
            let (told, code) = scene.told(&from, &to, path)?;
            let verdict = &told["verdict"];
            let at_once = |text: &str| verdict["says"].as_str().is_some_and(|says| says.contains(text));
            assert!(says(&told, "route").starts_with(rule), "{from} {to} {path}: {told:#}");
            match (status, refused) {
                (200, _) => {
                    assert_eq!((&verdict["outcome"], code), (&"carried".into(), Some(0)), "{told:#}");
                    assert!(at_once(&format!("(shop/{by})")), "{told:#}");
                }
                (301, _) => {
                    assert_eq!((&verdict["outcome"], code), (&"answered".into(), Some(0)), "{told:#}");
                    assert!(at_once(&format!("301 to {},", answer.header("location"))), "{told:#}");
                }
                (_, reason) => {
                    assert_eq!(
                        (&verdict["outcome"], &verdict["reason"], code),
                        (&"refused".into(), &reason.into(), Some(1)),
                        "{told:#}"
                    );
                }
            }
        }
    }
    let (told, _) = scene.told("shop/client", "safe.vault:80", "/")?;
    let by = &told["verdict"]["by"];
    assert_eq!(
        (&by["kind"], &by["name"], &by["owner"], &by["line"]),
        (&"AuthorizationPolicy".into(), &"not-from-shop".into(), &"ns/vault".into(), &1.into())
    );
    Ok(())
}

#[test]
fn what_is_told_of_deliveries_is_what_the_access_log_says() -> Outcome {
    let mut scene = Scene::new()?;
    for (pod, from, delivery) in [("client", "shop/client", "direct"), ("caller", "bank/caller", "handoff")] {
        let caller = if pod == "client" { &scene.client } else { &scene.bank };
        assert_eq!(http::get(caller, scene.web.at(80), "web.shop", "/here")?.status, 200);
        let line =
            scene.daemon.wait_logged(|line| line["workload"] == from && line["direction"] == "outbound")?;
        let (told, _) = scene.told(from, "web.shop:80", "/here")?;
        let says = says(&told, "endpoint");
        let (endpoint, why) = (
            line["endpoint"].as_str().unwrap_or_default(),
            line["delivery_why"].as_str().unwrap_or_default(),
        );
        assert_eq!(line["delivery"], delivery, "{line}");
        assert!(
            says.starts_with(endpoint) && says.contains(&format!("{delivery} ({why}: ")),
            "{line}: {says}"
        );
    }
    Ok(())
}

#[test]
fn what_is_refused_without_an_answer_is_told_with_the_reason_that_is_logged() -> Outcome {
    let mut scene = Scene::new()?;
    let (safe, outside) = (scene.safe.at(80), scene.outside.at(OUTSIDE));
    // A caller that goes around its own proxy is plaintext, and this pod takes none.
    let mut around = dial(&scene.excluded, safe)?;
    around.write_all(b"GET / HTTP/1.1\r\nhost: safe\r\n\r\n")?;
    let mut answer = Vec::new();
    let heard = around.read_to_end(&mut answer).unwrap_or_default();
    assert!(heard == 0 || answer.starts_with(b"HTTP/1.1 403"), "{}", String::from_utf8_lossy(&answer));
    let line = scene.daemon.wait_logged(|line| line["reason"] == "plaintext_refused")?;
    let (told, code) = scene.told("bank/excluded", &safe.to_string(), "/")?;
    assert_eq!((&told["verdict"]["reason"], code), (&line["reason"], Some(1)), "{told:#}");
    let by = &told["verdict"]["by"];
    assert_eq!(
        line["policy"],
        format!(
            "{}/{}",
            by["namespace"].as_str().unwrap_or_default(),
            by["name"].as_str().unwrap_or_default()
        )
    );
    assert!(says(&told, "capture").contains("exclude-outbound-cidrs"), "{told:#}");

    assert!(end_of(&scene.kept, outside).is_err(), "it is reset");
    let line = scene.daemon.wait_logged(|line| line["reason"] == "egress_forbidden")?;
    let (told, code) = scene.told("kept/app", &outside.to_string(), "/")?;
    assert_eq!((&told["verdict"]["reason"], code), (&line["reason"], Some(1)), "{told:#}");
    assert_eq!(told["verdict"]["by"]["kind"], "Tenant");
    Ok(())
}

#[test]
fn what_is_told_is_what_is_in_force_now_and_who_cannot_be_asked_about_is_said() -> Outcome {
    let scene = Scene::new()?;
    assert_eq!(scene.told("shop/client", "web.shop:80", "/elsewhere")?.0["verdict"]["reason"], "no_route");
    scene.stage.put_route(&scene.daemon, "web", "  - backendRefs: [{name: new, port: 80}]")?;
    let (told, code) = scene.told("shop/client", "web.shop:80", "/elsewhere")?;
    assert_eq!((&told["verdict"]["outcome"], code), (&"carried".into(), Some(0)), "{told:#}");
    // A broken edit is not in force.
    scene.stage.manifests.write("web.yaml", "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web, namespace: shop}\nspec: {rules: x}\n")?;
    e2e::eventually("it is rejected", || {
        scene.daemon.canopy(&["status"]).is_ok_and(|output| !output.status.success())
    })?;
    assert_eq!(scene.told("shop/client", "web.shop:80", "/elsewhere")?.1, Some(0));
    for (words, code, expected) in [
        (["--from", "shop/nobody", "--to", "web.shop:80"], 1, "there is no workload shop/nobody"),
        (["--from", "shop", "--to", "web.shop:80"], 2, "--from must be NAMESPACE/POD"),
        (["--from", "shop/client", "--to", "web.shop\u{1b}[2J"], 2, "--to must be HOST:PORT"),
    ] {
        let words: Vec<&str> = std::iter::once("explain").chain(words).collect();
        let output = scene.daemon.canopy(&words)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(expected) && !said.contains('\u{1b}'), "{said:?}");
    }
    Ok(())
}

/// `canopy diff DIRECTORY`: its exit code, and what it prints.
fn diff(daemon: &Daemon, directory: &Manifests) -> Result<(Option<i32>, String), KitError> {
    let output = daemon.canopy(&["diff", &directory.path().to_string_lossy()])?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.code(), said))
}

#[test]
fn a_difference_is_told_before_it_is_applied_and_is_what_the_daemon_does_then() -> Outcome {
    let scene = Scene::new()?;
    let same = Manifests::copy_of(scene.stage.manifests.path())?;
    let (code, said) = diff(&scene.daemon, &same)?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing changes for kept, ns/bank, ns/shop, ns/vault"), "{said}");
    let other = Manifests::copy_of(scene.stage.manifests.path())?;
    other.write("policies.yaml", &POLICIES.replace("namespaces: [shop]", "namespaces: [bank]"))?;
    other.write("web.yaml", "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web, namespace: shop}\nspec: {rules: x}\n")?;
    let (code, said) = diff(&scene.daemon, &other)?;
    assert_eq!(code, Some(1), "{said}");
    for words in [
        "~ AuthorizationPolicy vault/not-from-shop",
        "revoked    bank/sa/caller → vault/sa/safe at port 80 and all others: is refused by AuthorizationPolicy vault/not-from-shop",
        "granted    shop/sa/client → vault/sa/safe at port 80 and all others: was refused by AuthorizationPolicy vault/not-from-shop",
        "kept last good version",
        "nothing changes for kept",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // Nothing of it was applied.
    let reach = |from: &Pod| {
        http::get(from, scene.ledger.at(80), "safe.vault", "/").map(|answer| answer.status.as_u16())
    };
    assert_eq!((reach(&scene.client)?, reach(&scene.bank)?), (403, 200));
    scene.stage.put(
        &scene.daemon,
        "policies.yaml",
        &POLICIES.replace("namespaces: [shop]", "namespaces: [bank]"),
    )?;
    assert_eq!((reach(&scene.client)?, reach(&scene.bank)?), (200, 403));
    assert_eq!(diff(&scene.daemon, &scene.stage.manifests)?.0, Some(0), "against itself");
    let (code, said) = diff(&scene.daemon, &Manifests::new()?)?;
    assert_eq!(code, Some(1), "all of it would go: {said}");
    let output = scene.daemon.canopy(&["diff", "/nowhere/at/all"])?;
    assert_eq!(output.status.code(), Some(2), "it cannot be told");
    Ok(())
}
