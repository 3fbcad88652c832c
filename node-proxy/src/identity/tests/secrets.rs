//! No key is in anything that is printed.

use std::{fmt::Debug, rc::Rc, sync::Arc};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::task::LocalSet;

use super::support::{Anything, Odd, cart};
use crate::identity::{
    authority::Request,
    certificate::Certificate,
    testing::{TestAuthority, credentials},
};

/// Of the 32 bytes of a P-256 key, any eight in a row, as bytes, numbers or text.
fn shows(printed: &str, key: &PrivateKeyDer<'_>) -> bool {
    let scalar = &key.secret_der()[36..68];
    scalar.windows(8).any(|part| {
        let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
        let numbers = format!("{part:?}");
        printed.to_lowercase().contains(&hex) || printed.contains(numbers.trim_matches(['[', ']']))
    })
}

fn print(value: &impl Debug) -> String {
    format!("{value:?} {value:#?}")
}

#[test]
fn the_search_finds_what_it_searches() {
    let key =
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(rcgen::KeyPair::generate().unwrap().serialize_der()));
    assert!(shows(&format!("{:?}", key.secret_der()), &key));
    let hex: String = key.secret_der().iter().map(|byte| format!("{byte:02X}")).collect();
    assert!(shows(&hex, &key));
}

#[test]
fn certificate_and_what_is_made_of_it_print_no_key() {
    let (leaf, key) = Anything::new("ours").sign(&Odd::default());
    let certificate = Certificate::new(vec![leaf], key.clone_key(), &cart()).unwrap();
    let trust = Anything::new("ours").trust();
    let parts = crate::identity::tls::Parts {
        provider: Arc::new(crate::identity::tls::provider()),
        clock: Arc::new(rustls::time_provider::DefaultTimeProvider),
    };
    let client = crate::identity::tls::client(&parts, &certificate, trust.clone(), &[cart()]).unwrap();
    let server = crate::identity::tls::server(&parts, &certificate, trust).unwrap();
    for printed in [print(&certificate), print(&client), print(&server), print(certificate.key())] {
        assert!(!shows(&printed, &key), "{printed}");
    }
    assert!(!print(&Request::new(&cart()).unwrap()).contains("key"));
}

#[tokio::test]
async fn credentials_and_their_description_print_no_key() {
    LocalSet::new()
        .run_until(async {
            let (credentials, kept) = credentials(TestAuthority::new().sources(), &[cart()]);
            credentials.server(&cart()).await.unwrap();
            let description = credentials.describe(&cart()).unwrap();
            let printed = [
                print(&credentials),
                print(&kept),
                print(&description),
                serde_json::to_string(&description).unwrap(),
            ];
            // Everything that may be said, word for word: whatever is added has to be looked at.
            let fields: Vec<_> =
                serde_json::to_value(&description).unwrap().as_object().unwrap().keys().cloned().collect();
            assert_eq!(fields, ["authority", "not_after", "not_before", "problem", "serial"]);
            assert!(printed.iter().all(|text| !text.contains("PRIVATE") && text.len() < 600), "{printed:?}");
            drop(Rc::clone(&credentials));
        })
        .await;
}
