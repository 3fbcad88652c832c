//! Callers of a policy that nobody can be: a rule of whom nobody is would deny nobody, and say nothing.

use config::finding::Reason;

use super::{
    check,
    policies::{AUTHORIZATION, case},
};

#[test]
fn sources_that_nobody_can_be_are_rejected_with_what_to_write_instead() {
    use Reason::InvalidValue;
    check(
        AUTHORIZATION,
        &[
            case(
                "a SPIFFE ID",
                "  rules: [{from: [{source: {principals: ['spiffe://cluster.local/ns/bank/sa/x']}}]}]\n",
                42,
                "spec.rules[0].from[0].source.principals[0]",
                InvalidValue,
                "without spiffe://, as \"cluster.local/ns/bank/sa/x\"",
            ),
            case(
                "no trust domain",
                "  rules: [{from: [{source: {notPrincipals: [ns/bank/sa/x]}}]}]\n",
                45,
                "spec.rules[0].from[0].source.notPrincipals[0]",
                InvalidValue,
                "write \"*/ns/bank/sa/x\" for any",
            ),
            case(
                "nobody's namespace",
                "  rules: [{from: [{source: {namespaces: ['']}}]}]\n",
                42,
                "spec.rules[0].from[0].source.namespaces[0]",
                InvalidValue,
                "is no namespace",
            ),
            case(
                "nobody's principal",
                "  rules: [{when: [{key: source.principal, values: ['']}]}]\n",
                52,
                "spec.rules[0].when[0].values[0]",
                InvalidValue,
                "TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT",
            ),
            case(
                "block",
                "  rules: [{from: [{source: {ipBlocks: [10.0.0.0/40]}}]}]\n",
                40,
                "spec.rules[0].from[0].source.ipBlocks[0]",
                InvalidValue,
                "such as 10.0.0.0/8",
            ),
        ],
    );
}
