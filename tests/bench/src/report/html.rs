//! A page of Markdown as one file of HTML that needs nothing else: its plots are in it, and it fetches nothing.
//!
//! The text is the Markdown's; only what a browser needs is added: a style for small screens and dark rooms, and a frame
//! in which a wide table scrolls by itself.

use std::{fs, path::Path};

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

use crate::error::BenchError;

/// The page; `folder` is what its pictures' names are relative to. A picture that is not there is an error.
pub(super) fn page(title: &str, markdown: &str, folder: &Path) -> Result<String, BenchError> {
    let mut rewriting = Rewriting { folder, link: Vec::new(), picture: false };
    let mut events = Vec::new();
    for event in with_anchors(Parser::new_ext(markdown, Options::ENABLE_TABLES)) {
        events.extend(rewriting.event(event)?);
    }
    let mut body = String::new();
    html::push_html(&mut body, events.into_iter());
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    ))
}

struct Rewriting<'a> {
    folder: &'a Path,
    /// Of each link that is open: whether it leads anywhere from here.
    link: Vec<bool>,
    /// Within a picture, whose other text is not shown beside it.
    picture: bool,
}

impl Rewriting<'_> {
    fn event<'e>(&mut self, event: Event<'e>) -> Result<Option<Event<'e>>, BenchError> {
        Ok(match event {
            Event::Start(Tag::Image { dest_url, .. }) => {
                self.picture = true;
                Some(Event::Html(format!("<figure>{}</figure>", self.picture(&dest_url)?).into()))
            }
            Event::End(TagEnd::Image) => {
                self.picture = false;
                None
            }
            Event::Text(_) if self.picture => None,
            // Comments are for whoever writes the page.
            Event::Html(text) if text.starts_with("<!--") => None,
            Event::Start(Tag::Link { ref dest_url, .. }) => {
                let leads = dest_url.starts_with('#') || dest_url.starts_with("https://");
                self.link.push(leads);
                leads.then_some(event)
            }
            Event::End(TagEnd::Link) => self.link.pop().unwrap_or(false).then_some(event),
            other => Some(other),
        })
    }

    fn picture(&self, name: &str) -> Result<String, BenchError> {
        let path = self.folder.join(name);
        fs::read_to_string(&path).map_err(|e| BenchError::io(format!("read {}", path.display()), e))
    }
}

/// Tables in their frames, and headings by the names that links to them have.
fn with_anchors<'e>(events: impl Iterator<Item = Event<'e>>) -> Vec<Event<'e>> {
    let mut all: Vec<Event<'e>> = Vec::new();
    let mut heading: Option<usize> = None;
    let mut words = String::new();
    for event in events {
        match &event {
            Event::Start(Tag::Table(_)) => all.push(Event::Html("<div class=\"wide\">".into())),
            Event::Start(Tag::Heading { .. }) => heading = Some(all.len()),
            Event::Text(text) | Event::Code(text) if heading.is_some() => words.push_str(text),
            _ => {}
        }
        let ended = matches!(event, Event::End(TagEnd::Heading(_)));
        let table = matches!(event, Event::End(TagEnd::Table));
        all.push(event);
        if table {
            all.push(Event::Html("</div>\n".into()));
        }
        if ended
            && let Some(at) = heading.take()
            && let Some(Event::Start(Tag::Heading { id, .. })) = all.get_mut(at)
        {
            *id = Some(CowStr::from(anchor(&std::mem::take(&mut words))));
        }
    }
    all
}

/// As code hosts make it of a heading's words.
fn anchor(words: &str) -> String {
    let kept = words.chars().filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter));
    kept.flat_map(char::to_lowercase).map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

const STYLE: &str = ":root{--ground:#fff;--text:#222;--faint:#667;--line:#d5d8de;--link:#1864ab;--code:#f2f3f5}\
    @media(prefers-color-scheme:dark){:root{--ground:#16181d;--text:#e6e6e6;--faint:#9aa0ab;--line:#3a3f49;--link:#74c0fc;--code:#23262d}}\
    *{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--text);font:16px/1.55 system-ui,sans-serif}\
    main{max-width:72rem;margin:0 auto;padding:1rem;overflow-wrap:anywhere}h1,h2,h3{line-height:1.25;margin:2em 0 .6em}h1{margin-top:.5em}\
    a{color:var(--link)}code{background:var(--code);border-radius:3px;padding:.1em .25em;font-size:.9em}\
    pre{overflow-x:auto;background:var(--code);padding:.7rem}pre code{padding:0}\
    .wide{overflow-x:auto;margin:1em 0}table{border-collapse:collapse;font-size:.9rem;overflow-wrap:normal}\
    th,td{border-bottom:1px solid var(--line);padding:.3em .7em;text-align:left;vertical-align:top}th{color:var(--faint);font-weight:600}\
    figure{margin:1em 0;overflow-x:auto}figure svg{max-width:100%;height:auto;min-width:34rem}\
    @media(max-width:40rem){body{font-size:15px}main{padding:.7rem}table{font-size:.8rem}}";

#[cfg(test)]
mod tests {
    use super::*;

    fn made_of(markdown: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("bars.svg"), "<svg>drawn</svg>").unwrap();
        page("A title", markdown, folder.path()).unwrap()
    }

    #[test]
    fn page_fetches_nothing_and_has_its_plots_in_it() {
        let page = made_of("# Bars\n\n![what they say](bars.svg)\n");
        assert!(page.contains("<figure><svg>drawn</svg></figure>"), "{page}");
        for fetched in ["<img", "<script", "<link", "what they say"] {
            assert!(!page.contains(fetched), "{fetched} in {page}");
        }
    }

    #[test]
    fn picture_that_is_not_there_is_an_error_that_names_it() {
        let why = page("", "![x](gone.svg)", Path::new("/nowhere")).unwrap_err().to_string();
        assert!(why.contains("/nowhere/gone.svg"), "{why}");
    }

    #[test]
    fn links_within_the_page_lead_to_their_headings_and_those_to_other_files_are_words() {
        let page = made_of(
            "[there](#node-or-sidecar-for-whom), [other](other.md)\n\n## Node or `sidecar`, for whom?\n",
        );
        assert!(page.contains("<a href=\"#node-or-sidecar-for-whom\">there</a>, other"), "{page}");
        assert!(page.contains("<h2 id=\"node-or-sidecar-for-whom\">"), "{page}");
    }

    #[test]
    fn each_table_scrolls_in_a_frame_of_its_own_and_comments_are_left_out() {
        let page = made_of("<!-- generated -->\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n");
        assert!(page.contains("<div class=\"wide\"><table>") && page.contains("</table>\n</div>"), "{page}");
        assert!(!page.contains("generated"), "{page}");
    }
}
