//! Services that cannot be.

use config::finding::Reason;

use super::{Case, SERVICE, check};

const SERVICES: &[Case] = &[
    Case {
        name: "unknown",
        manifest: "  ports: [{port: 80}]\n  selecter: {}\n",
        at: (6, 3),
        field: "spec.selecter",
        reason: Reason::UnknownField,
        says: "did you mean selector?",
    },
    Case {
        name: "text for number",
        manifest: "  ports:\n  - port: \"80\"\n",
        at: (6, 11),
        field: "spec.ports[0].port",
        reason: Reason::WrongType,
        says: "without quotes",
    },
    Case {
        name: "number for text",
        manifest: "  selector: {v: 1}\n",
        at: (5, 17),
        field: "spec.selector[v]",
        reason: Reason::WrongType,
        says: "in quotes",
    },
    Case {
        name: "mapping for list",
        manifest: "  ports: {port: 80}\n",
        at: (5, 10),
        field: "spec.ports",
        reason: Reason::WrongType,
        says: "must be a list",
    },
    Case {
        name: "missing",
        manifest: "  ports:\n  - name: http\n",
        at: (6, 5),
        field: "spec.ports[0].port",
        reason: Reason::MissingField,
        says: "add port",
    },
    Case {
        name: "range",
        manifest: "  ports: [{port: 65536}]\n",
        at: (5, 18),
        field: "spec.ports[0].port",
        reason: Reason::InvalidValue,
        says: "between 1 and 65535",
    },
    Case {
        name: "key twice",
        manifest: "  ports: []\n  ports: []\n",
        at: (6, 3),
        field: "spec.ports",
        reason: Reason::Duplicate,
        says: "first on line 5",
    },
    Case {
        name: "port twice",
        manifest: "  ports: [{name: a, port: 80}, {name: b, port: 80}]\n",
        at: (5, 32),
        field: "spec.ports[1]",
        reason: Reason::Duplicate,
        says: "twice",
    },
    Case {
        name: "loopback",
        manifest: "  clusterIP: 127.0.0.1\n",
        at: (5, 14),
        field: "spec.clusterIP",
        reason: Reason::NotPermitted,
        says: "loopback",
    },
    Case {
        name: "mapped",
        manifest: "  clusterIP: \"::ffff:127.0.0.1\"\n",
        at: (5, 14),
        field: "spec.clusterIP",
        reason: Reason::InvalidValue,
        says: "IPv4",
    },
    Case {
        name: "type",
        manifest: "  type: clusterip\n",
        at: (5, 9),
        field: "spec.type",
        reason: Reason::InvalidValue,
        says: "ClusterIP",
    },
];

#[test]
fn services_are_refused_at_the_field() {
    check(SERVICE, SERVICES);
}
