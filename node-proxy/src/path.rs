//! The life of a connection: capture → accept → identity → policy → route → balance → upstream → relay, in that
//! order, each stage called from here and from nowhere else.

use std::rc::Rc;

use crate::{capture::Captured, cell::Cell};

/// Carries one connection from its capture to its end.
pub async fn carry(_cell: Rc<Cell>, _captured: Captured) {}
