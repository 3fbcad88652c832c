//! Where a request goes whose first endpoint could not be reached.

use super::{
    deliveries::nobody,
    support::{Bench, Endpoint1, hear, local, say},
};
use crate::accept::Protocol;

const GET: &str = "GET / HTTP/1.1\r\nhost: cart\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_request_reaches_the_one_endpoint_that_answers_however_busy_it_is() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::new(&[nobody(2), nobody(3), endpoint.at()]);
        let mut held = Vec::new();
        for number in 0..40 {
            let mut client = bench.connect(Protocol::Http1).await;
            say(&mut client, GET).await;
            let heard = hear(&mut client).await;
            assert!(heard.ends_with("ok"), "{number}: {heard}");
            held.push(client);
        }
    })
    .await;
}
