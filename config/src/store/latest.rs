//! The files as they were last given, each read once per version of its text.
//!
//! A text that is the very one of before has not been changed. It is held only where the caller holds it as well: it must never
//! be kept in memory twice.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    FileText, Options,
    file::{self, FileRead},
    turns::{Difference, Files},
};

/// All files.
#[derive(Debug, Default)]
pub(super) struct Latest(BTreeMap<PathBuf, Given>);

#[derive(Debug)]
struct Given {
    read: Arc<FileRead>,
    /// What it was read of; `None` if the caller gives the same in another place each time.
    text: Option<FileText>,
}

impl Latest {
    /// Takes in all files as they are now; a file that is not among them is gone.
    pub(super) fn take(&mut self, files: &BTreeMap<PathBuf, FileText>, options: &Options) {
        let mut gone = Vec::new();
        let mut new = Vec::new();
        for (path, given, text) in beside(&self.0, files) {
            match (given, text) {
                (_, None) => gone.push(path.clone()),
                (Some(_), Some(FileText::AsBefore)) => {}
                (Some(given), Some(text)) if given.is(text) => {}
                (given, Some(text)) => new.push((path.clone(), Given::of(given, (path, text), options))),
            }
        }
        gone.iter().for_each(|path| drop(self.0.remove(path)));
        self.0.extend(new);
    }

    /// Lets go of the texts: whoever gives the same again says so, or has it compared by its content.
    pub(super) fn forget_texts(&mut self) {
        self.0.values_mut().for_each(|given| given.text = None);
    }

    /// Which files differ from those.
    pub(super) fn differences(&self, from: &Files) -> Vec<Difference> {
        let difference = |(path, then, now): (&PathBuf, Option<&Arc<FileRead>>, Option<&Given>)| {
            let now = now.map(|given| &given.read);
            let is_same = then.zip(now).is_some_and(|(then, now)| Arc::ptr_eq(then, now));
            (!is_same).then(|| Difference { path: path.clone(), then: then.cloned(), now: now.cloned() })
        };
        beside(from, &self.0).filter_map(difference).collect()
    }
}

impl Given {
    fn of(before: Option<&Self>, (path, text): (&Path, &FileText), options: &Options) -> Self {
        if let Some(before) = before.filter(|before| before.read.is_of(text)) {
            return Self { read: Arc::clone(&before.read), text: None };
        }
        let read = file::read(path, text, before.map(|before| &*before.read), options);
        Self { read: Arc::new(read), text: Some(text.clone()) }
    }

    fn is(&self, text: &FileText) -> bool {
        match (&self.text, text) {
            (Some(FileText::Bytes(one)), FileText::Bytes(other)) => Arc::ptr_eq(one, other),
            (Some(FileText::Unreadable(one)), FileText::Unreadable(other)) => Arc::ptr_eq(one, other),
            (Some(_), _) => false,
            (None, text) => self.read.is_of(text),
        }
    }
}

/// Two maps of files beside each other, in the order of their paths.
fn beside<'a, A, B>(
    one: &'a BTreeMap<PathBuf, A>,
    other: &'a BTreeMap<PathBuf, B>,
) -> impl Iterator<Item = (&'a PathBuf, Option<&'a A>, Option<&'a B>)> {
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (one.peek(), other.peek()) {
            // Whether two paths are the same text is found out sooner than which one is first.
            (Some((first, _)), Some((second, _))) if first.as_os_str() == second.as_os_str() => {
                Ordering::Equal
            }
            (Some((first, _)), Some((second, _))) => first.cmp(second),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let first = if order.is_le() { one.next() } else { None };
        let second = if order.is_ge() { other.next() } else { None };
        let path = first.map(|(path, _)| path).or(second.map(|(path, _)| path))?;
        Some((path, first.map(|(_, value)| value), second.map(|(_, value)| value)))
    })
}
