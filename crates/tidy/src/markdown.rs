//! As much of Markdown as links need.

/// A link: its line (from 1) and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The line, from 1.
    pub line: usize,
    /// As it stands there.
    pub target: String,
}

/// Every link and image of a page, inline or as a reference, outside of code.
#[must_use]
pub fn links(text: &str) -> Vec<Link> {
    let mut all = Vec::new();
    for (line, prose) in prose(text) {
        let inline = prose.match_indices("](").filter_map(|(at, _)| target(&prose[at + 2..]));
        let reference =
            prose.strip_prefix('[').and_then(|rest| rest.split_once("]:")).map(|(_, to)| to.trim());
        let reference = reference.filter(|to| !to.is_empty()).map(str::to_owned);
        all.extend(inline.chain(reference).map(|target| Link { line, target }));
    }
    all
}

fn target(rest: &str) -> Option<String> {
    let inside = &rest[..rest.find(')')?];
    let inside = inside.split(" \"").next()?.trim();
    Some(inside.trim_start_matches('<').trim_end_matches('>').to_owned())
}

/// The anchors of a page's headings, as GitHub makes them: lower case, spaces as hyphens, other signs left out,
/// and `-1`, `-2` … where a heading comes again.
#[must_use]
pub fn anchors(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (_, line) in lines_outside_blocks(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().to_lowercase().replace(' ', "-");
        let slug: String = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
        let times = all.iter().filter(|other| **other == slug).count();
        all.push(if times == 0 { slug } else { format!("{slug}-{times}") });
    }
    all
}

/// Lines (from 1) outside of code blocks, with what stands in backquotes cut out.
fn prose(text: &str) -> Vec<(usize, String)> {
    let cut = |line: &str| line.split('`').step_by(2).collect::<Vec<_>>().join("_");
    lines_outside_blocks(text).map(|(at, line)| (at, cut(line))).collect()
}

fn lines_outside_blocks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fence && !fenced).then_some((at + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_are_none() {
        let text = "[a](b.md)\n`[c](d)`\n```\n[e](f)\n```\n[g]: h.md#i\n![j](k.png \"title\")";
        let found: Vec<_> = links(text).into_iter().map(|link| (link.line, link.target)).collect();
        assert_eq!(found, [(1, "b.md".into()), (6, "h.md#i".into()), (7, "k.png".into())]);
    }

    #[test]
    fn anchors_are_made_as_github_makes_them() {
        let text = "# One `exit`, room by room\n## Logs & pids\n## Twice\n## Twice\n#no heading\n";
        assert_eq!(anchors(text), ["one-exit-room-by-room", "logs--pids", "twice", "twice-1"]);
    }
}
