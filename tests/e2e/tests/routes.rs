//! HTTPRoutes with a Service as parent, as Gateway API says: who is chosen, what is changed, what is refused.

use e2e::{HTTP, Origin, Stage, Traffic, Vip, eventually};
use testkit::{
    Daemon, Outcome, Pod, block_on,
    http::{self, Answer, Connection, RequestError},
};

/// A caller, the Service `shop/web` that routes are attached to, and two backends of one pod each.
struct Shop {
    daemon: Daemon,
    old: Origin,
    new: Origin,
    client: Pod,
    _backends: [Pod; 2],
    vip: Vip,
    stage: Stage,
}

impl Shop {
    /// With these rules in force.
    fn open(rules: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stage = Stage::new()?;
        let client = stage.pod("shop", "client", &[])?;
        let backends = [stage.pod("shop", "old", &[HTTP])?, stage.pod("shop", "new", &[HTTP])?];
        let [old_pod, new_pod] = &backends;
        let vip = stage.service(("shop", "web"), 10, &[HTTP], &[old_pod, new_pod])?;
        stage.service(("shop", "old"), 11, &[HTTP], &[old_pod])?;
        stage.service(("shop", "new"), 12, &[HTTP], &[new_pod])?;
        let (old, new) = (Origin::start(old_pod, 80)?, Origin::start(new_pod, 80)?);
        stage.route("web", rules)?;
        let daemon = stage.daemon()?;
        Ok(Self { daemon, old, new, client, _backends: backends, vip, stage })
    }

    fn get(&self, path: &str) -> Result<Answer, RequestError> {
        http::get(&self.client, self.vip.at(80), "web.shop", path)
    }

    /// A request with a method and a header of its own.
    fn send(&self, method: &str, path: &str, header: (&str, &str)) -> Result<Answer, RequestError> {
        self.client.run(|| {
            block_on(async {
                let request = ::http::Request::builder().method(method).uri(path).header("host", "web.shop");
                let request = request.header(header.0, header.1).body(Default::default())?;
                Connection::http1(self.vip.at(80)).await?.send(request).await
            })
        })?
    }
}

fn split(old: u32, new: u32) -> String {
    format!(
        "  - backendRefs:\n    - {{name: old, port: 80, weight: {old}}}\n    - {{name: new, port: 80, weight: {new}}}"
    )
}

const TO_OLD: &str = "backendRefs: [{name: old, port: 80}]";
const TO_NEW: &str = "backendRefs: [{name: new, port: 80}]";

#[test]
fn weights_are_kept_and_an_edit_shifts_them_without_a_failed_request() -> Outcome {
    let shop = Shop::open(&split(90, 10))?;
    let traffic = Traffic::start(&shop.client, shop.vip.at(80), "web.shop")?;
    let before = traffic.next(1_000)?;
    // Five standard deviations of 1000 draws at 10% are 47.
    assert!((53..=147).contains(&before.of("new")), "{before:?}");
    shop.stage.put_route(&shop.daemon, "web", &split(0, 1))?;
    // What was under way when the cell took it up may be answered by whom it was sent to.
    traffic.next(1)?;
    let after = traffic.next(500)?;
    assert_eq!((after.of("old"), after.failures), (0, 0), "{after:?}");
    Ok(())
}

#[test]
fn a_rule_is_chosen_by_path_header_method_and_query_with_the_specifications_precedence() -> Outcome {
    let shop = Shop::open(&format!(
        "  - name: prefix\n    matches: [{{path: {{type: PathPrefix, value: /a}}}}]\n    {TO_OLD}\n\
         \x20 - name: exact\n    matches: [{{path: {{type: Exact, value: /a/exact}}}}]\n    {TO_NEW}\n\
         \x20 - name: regex\n    matches: [{{path: {{type: RegularExpression, value: \"/r[0-9]+\"}}}}]\n    {TO_OLD}\n\
         \x20 - name: header\n    matches: [{{headers: [{{name: x-beta, value: \"yes\"}}]}}]\n    {TO_NEW}\n\
         \x20 - name: method\n    matches: [{{method: DELETE}}]\n    {TO_NEW}\n\
         \x20 - name: query\n    matches: [{{queryParams: [{{name: q, value: \"1\"}}]}}]\n    {TO_NEW}\n\
         \x20 - name: both\n    matches: [{{path: {{type: PathPrefix, value: /a}}, headers: [{{name: x-beta, value: \"yes\"}}]}}]\n    {TO_NEW}"
    ))?;
    let other = ("x-other", "1");
    let beta = ("x-beta", "yes");
    for (method, path, header, rule, pod) in [
        ("GET", "/a", other, "prefix", "old"),
        ("GET", "/a/b", other, "prefix", "old"),
        ("GET", "/a/exact", other, "exact", "new"),
        ("GET", "/r17", other, "regex", "old"),
        ("GET", "/", beta, "header", "new"),
        ("DELETE", "/", other, "method", "new"),
        ("GET", "/?q=1", other, "query", "new"),
        ("GET", "/a/b", beta, "both", "new"),
    ] {
        let answer = shop.send(method, path, header)?;
        assert_eq!((answer.status.as_u16(), answer.header("x-pod")), (200, pod), "{method} {path}");
        let asked = path.split('?').next();
        eventually(&format!("{method} {path} is logged with the rule {rule}"), || {
            let log = shop.daemon.access_log();
            log.iter().any(|line| {
                line["rule"] == rule && line["path"].as_str() == asked && line["route"] == "shop/web"
            })
        })?;
    }
    for (path, why) in
        [("/ab", "a prefix is of whole elements"), ("/r17x", "an expression is for the whole path")]
    {
        let answer = shop.get(path)?;
        assert_eq!((answer.status.as_u16(), answer.header("canopy-refused")), (404, "no_route"), "{why}");
    }
    Ok(())
}

#[test]
fn without_a_matching_rule_the_answer_is_404_and_nobody_is_asked() -> Outcome {
    let mut shop =
        Shop::open(&format!("  - matches: [{{path: {{type: Exact, value: /here}}}}]\n    {TO_OLD}"))?;
    let answer = shop.get("/elsewhere")?;
    assert_eq!((answer.status.as_u16(), answer.header("canopy-refused")), (404, "no_route"));
    assert!(shop.old.seen().is_empty() && shop.new.seen().is_empty());
    let line = shop.daemon.wait_logged(|line| line["path"] == "/elsewhere")?;
    assert_eq!((&line["reason"], &line["status"]), (&"no_route".into(), &404.into()), "{line}");
    shop.daemon.wait_metric("canopy_refused_total", &["reason=\"no_route\""], 1.0)?;
    Ok(())
}

#[test]
fn a_backend_that_is_not_there_is_500_for_its_share_alone() -> Outcome {
    let shop = Shop::open(
        "  - matches: [{path: {value: /broken}}]\n    backendRefs: [{name: no-such, port: 80}]\n\
         \x20 - matches: [{path: {value: /half}}]\n    backendRefs:\n    - {name: no-such, port: 80}\n    - {name: old, port: 80}\n\
         \x20 - matches: [{path: {value: /port}}]\n    backendRefs: [{name: old, port: 81}]\n\
         \x20 - matches: [{path: {value: /none}}]\n    name: none",
    )?;
    for path in ["/broken", "/port", "/none"] {
        let answer = shop.get(path)?;
        assert_eq!(
            (answer.status.as_u16(), answer.header("canopy-refused")),
            (500, "invalid_backend"),
            "{path}"
        );
    }
    let mut statuses = Vec::new();
    for _ in 0..100 {
        statuses.push(shop.get("/half")?.status.as_u16());
    }
    let failed = statuses.iter().filter(|status| **status == 500).count();
    assert!((25..=75).contains(&failed), "{failed} of 100 at equal weights");
    assert!(statuses.iter().all(|status| [200, 500].contains(status)), "{statuses:?}");
    Ok(())
}

#[test]
fn a_redirect_is_answered_at_once_with_its_place() -> Outcome {
    let shop = Shop::open(
        "  - matches: [{path: {type: PathPrefix, value: /old}}]\n    filters:\n    - type: RequestRedirect\n      requestRedirect:\n\
         \x20       {scheme: https, hostname: example.test, port: 8443, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}\n\
         \x20 - filters: [{type: RequestRedirect, requestRedirect: {hostname: example.test}}]",
    )?;
    let answer = shop.get("/old/thing?x=1")?;
    assert_eq!(answer.status, 301);
    assert_eq!(answer.header("location"), "https://example.test:8443/new/thing?x=1");
    let answer = shop.get("/any")?;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (302, "http://example.test/any"));
    assert!(shop.old.seen().is_empty() && shop.new.seen().is_empty());
    Ok(())
}

#[test]
fn rewrites_and_header_modifiers_change_what_the_backend_and_the_client_see() -> Outcome {
    let shop = Shop::open(&format!(
        "  - matches: [{{path: {{type: PathPrefix, value: /api}}}}]\n    filters:\n\
         \x20   - {{type: URLRewrite, urlRewrite: {{hostname: inner.test, path: {{type: ReplacePrefixMatch, replacePrefixMatch: /v2}}}}}}\n\
         \x20   - {{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-set, value: s}}], add: [{{name: x-client, value: added}}], remove: [x-gone]}}}}\n\
         \x20   - {{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-answer, value: a}}], remove: [x-pod]}}}}\n\
         \x20   {TO_OLD}"
    ))?;
    let answer = shop.send("GET", "/api/cart?x=1", ("x-client", "own"))?;
    assert_eq!((answer.status.as_u16(), answer.header("x-answer"), answer.header("x-pod")), (200, "a", ""));
    let seen = shop.old.seen().pop().ok_or("the backend was asked")?;
    assert_eq!(
        (seen.uri.to_string().as_str(), &seen.headers["host"]),
        ("/v2/cart?x=1", &"inner.test".parse()?)
    );
    assert_eq!(seen.headers["x-set"], "s");
    let both: Vec<_> = seen.headers.get_all("x-client").iter().collect();
    assert_eq!(both.len(), 2, "added to what was there: {both:?}");
    Ok(())
}

#[test]
fn a_mirrored_request_is_seen_by_both_and_answered_by_one() -> Outcome {
    let shop = Shop::open(&format!(
        "  - filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: new, port: 80}}}}}}]\n    {TO_OLD}"
    ))?;
    for number in 0..20 {
        let answer = shop.get(&format!("/{number}"))?;
        assert_eq!((answer.status.as_u16(), answer.header("x-pod")), (200, "old"));
    }
    eventually("twenty copies", || shop.new.seen().len() == 20)?;
    assert_eq!(shop.old.seen().len(), 20);
    // An application that does not answer its copies keeps nobody waiting.
    let answer = shop.get("/?ms=0")?;
    assert_eq!(answer.status, 200);
    Ok(())
}

#[test]
fn a_rule_that_is_too_slow_is_answered_504_in_time() -> Outcome {
    let shop = Shop::open(&format!(
        "  - matches: [{{path: {{value: /request}}}}]\n    timeouts: {{request: 2s}}\n    {TO_OLD}\n\
         \x20 - matches: [{{path: {{value: /backend}}}}]\n    timeouts: {{request: 28s, backendRequest: 2s}}\n    {TO_OLD}\n\
         \x20 - {TO_OLD}"
    ))?;
    for (path, reason) in [("/request?ms=29000", "request_timeout"), ("/backend?ms=29000", "backend_timeout")]
    {
        let begun = tokio::time::Instant::now();
        let answer = shop.get(path)?;
        assert_eq!((answer.status.as_u16(), answer.header("canopy-refused")), (504, reason));
        let took = begun.elapsed().as_millis();
        assert!((2_000..20_000).contains(&took), "{path} took {took} ms");
    }
    assert_eq!(shop.get("/request")?.status, 200, "who is in time is answered");
    assert_eq!(shop.get("/else?ms=3000")?.status, 200, "no other rule has a time-out");
    Ok(())
}

#[test]
fn requests_by_pod_address_are_not_routed() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let origin = Origin::start(&web, 80)?;
    stage
        .route("web", "  - filters: [{type: RequestRedirect, requestRedirect: {hostname: example.test}}]")?;
    let _daemon = stage.daemon()?;
    assert_eq!(http::get(&client, vip.at(80), "web.shop", "/")?.status, 302);
    assert_eq!(http::get(&client, web.at(80), "web.shop", "/")?.status, 200);
    assert_eq!(origin.seen().len(), 1);
    Ok(())
}
