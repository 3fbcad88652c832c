//! LabelSelector: labels and expressions, by the API server's own rules of validity.

use super::{Context, metadata};
use crate::{
    document::Node,
    model::{LabelExpression, LabelOperator, LabelSelector},
};

pub(super) fn lower(context: &mut Context<'_>, node: &Node) -> LabelSelector {
    LabelSelector {
        labels: metadata::texts(node.get("matchLabels")),
        expressions: node
            .items_of("matchExpressions")
            .iter()
            .filter_map(|item| expression(context, item))
            .collect(),
    }
}

fn expression(context: &mut Context<'_>, node: &Node) -> Option<LabelExpression> {
    let key = node.text_of("key")?.to_owned();
    let values: Vec<String> =
        node.items_of("values").iter().filter_map(|value| value.text().map(str::to_owned)).collect();
    let operator = node.get("operator")?;
    let operator = match (operator.text().unwrap_or_default(), values.is_empty()) {
        ("In", false) => LabelOperator::In(values),
        ("NotIn", false) => LabelOperator::NotIn(values),
        ("Exists", true) => LabelOperator::Exists,
        ("DoesNotExist", true) => LabelOperator::DoesNotExist,
        ("In" | "NotIn", true) => {
            context.missing(node, "values", "required: In and NotIn compare with values");
            return None;
        }
        ("Exists" | "DoesNotExist", false) => {
            context.invalid(operator, "compares with no values: remove them, or write In or NotIn");
            return None;
        }
        _ => {
            let message = format!("must be In, NotIn, Exists or DoesNotExist, not {}", operator.describe());
            context.invalid(operator, message);
            return None;
        }
    };
    Some(LabelExpression { key, operator })
}
