//! The screen of `canopy top`: what is shown for a state and a reading, and what keys do to the state. No terminal is touched here.

use ratatui::{
    Frame,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style},
    text::{Line, Text},
    widgets::{Cell as TableCell, Paragraph, Row as TableRow, Table, TableState},
};

use super::{
    Sort,
    cells::{Cell, bytes, cores},
    rows::{HEADINGS, Row, Rows, cut, name_width, text},
};
use crate::forest::costs::NodeCosts;

/// What somebody looks at.
#[derive(Debug)]
pub(super) struct State {
    sort: Sort,
    /// Whose workloads; `None` for all tenants.
    tenant: Option<String>,
    selected: usize,
    /// Names of the rows that were drawn last, as tenants are known.
    shown: Vec<String>,
    table: TableState,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Show it again.
    Draw,
    /// Nothing.
    Nothing,
    /// The end.
    Quit,
}

/// Used so much of a bound, a cell is shown as a warning.
const NEAR: f64 = 0.8;

impl State {
    /// All tenants, or one's workloads.
    pub(super) fn new(sort: Sort, tenant: Option<String>) -> Self {
        Self { sort, tenant, selected: 0, shown: Vec::new(), table: TableState::default() }
    }

    /// Does what a key says.
    pub(super) fn press(&mut self, key: KeyEvent) -> Wish {
        let last = self.shown.len().saturating_sub(1);
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Wish::Quit,
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Down | KeyCode::Char('j') => self.selected = (self.selected + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = last,
            KeyCode::Enter | KeyCode::Right if self.tenant.is_none() => {
                let Some(tenant) = self.shown.get(self.selected) else { return Wish::Nothing };
                self.tenant = Some(tenant.clone());
                self.selected = 0;
            }
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => {
                let Some(tenant) = self.tenant.take() else { return Wish::Nothing };
                self.shown = vec![tenant];
                self.selected = 0;
            }
            KeyCode::Char(letter) => match KEYS.iter().find(|(key, _)| *key == letter) {
                Some((_, sort)) => self.sort = *sort,
                None => return Wish::Nothing,
            },
            _ => return Wish::Nothing,
        }
        Wish::Draw
    }

    /// Draws a reading.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, costs: &NodeCosts) {
        let layout = Layout::vertical([Constraint::Length(1), Constraint::Min(2), Constraint::Length(1)]);
        let [above, middle, below] = layout.areas(frame.area());
        let Rows { what, rows } = Rows::of(costs, self.tenant.as_deref(), self.sort);
        self.selected = self.selected.min(rows.len().saturating_sub(1));
        self.shown = rows.iter().map(|row| plain(&row.name).to_owned()).collect();
        let taken: usize = HEADINGS.iter().map(|(_, width)| width + 1).sum();
        let width = name_width(&rows, usize::from(middle.width).saturating_sub(taken));
        let widths = std::iter::once(width).chain(HEADINGS.iter().map(|(_, width)| *width));
        let widths = widths.map(|width| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX)));
        let headings = HEADINGS.iter().map(|(heading, _)| right((*heading).to_owned()));
        let header = std::iter::once(TableCell::from(what)).chain(headings);
        let table = Table::new(rows.iter().map(|row| table_row(row, width)), widths)
            .header(TableRow::new(header).style(Style::new().add_modifier(Modifier::BOLD)))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        self.table.select((!rows.is_empty()).then_some(self.selected));
        frame.render_widget(Paragraph::new(self.title(costs)), above);
        frame.render_stateful_widget(table, middle, &mut self.table);
        let keys = if self.tenant.is_some() { "Esc tenants" } else { "Enter workloads" };
        let below_text = format!("q quit  {keys}  sort: Cpu Mem cOnns Requests Bytes reFused Name");
        frame.render_widget(
            Paragraph::new(Line::styled(below_text, Style::new().add_modifier(Modifier::DIM))),
            below,
        );
    }

    fn title(&self, costs: &NodeCosts) -> String {
        let whose = self
            .tenant
            .as_ref()
            .map_or_else(|| format!("{} tenants", costs.tenants.len()), |tenant| format!("tenant {tenant}"));
        let used: f64 =
            costs.tenants.iter().filter_map(|tenant| tenant.rates).map(|rates| rates.cpu_cores).sum();
        let (cpu, memory) = (cores(used), bytes(costs.resident_bytes.process));
        format!("canopy top  {whose}  by {}  tenants' cpu {cpu}  daemon {memory} resident", self.sort.word())
    }
}

impl Sort {
    fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::Bytes => "bytes",
            Self::Refused => "refused",
            Self::Name => "name",
        }
    }
}

const KEYS: [(char, Sort); 7] = [
    ('c', Sort::Cpu),
    ('m', Sort::Memory),
    ('o', Sort::Connections),
    ('r', Sort::Requests),
    ('b', Sort::Bytes),
    ('f', Sort::Refused),
    ('n', Sort::Name),
];

/// A tenant's name without its state.
fn plain(name: &str) -> &str {
    name.split(" (").next().unwrap_or(name)
}

fn table_row(row: &Row, width: usize) -> TableRow<'static> {
    let cells =
        row.cells.iter().enumerate().map(|(column, cell)| right(text(column, cell)).style(style(cell)));
    TableRow::new(std::iter::once(TableCell::from(cut(&row.name, width))).chain(cells))
}

fn right(text: String) -> TableCell<'static> {
    TableCell::from(Text::from(text).right_aligned())
}

fn style(cell: &Cell) -> Style {
    match cell.fraction() {
        Some(fraction) if fraction >= 1.0 => Style::new().fg(Color::Red),
        Some(fraction) if fraction >= NEAR => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::cli::top::rows::tests::node;

    fn screen(state: &mut State) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(80, 7)).unwrap();
        terminal.draw(|frame| state.draw(frame, &node())).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..80).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..7).map(|y| line(y).trim_end().to_owned()).collect()
    }

    fn press(state: &mut State, code: KeyCode) -> Wish {
        state.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn tenants_fit_into_80_columns_beside_their_budgets() {
        let mut state = State::new(Sort::Cpu, None);
        let expected = [
            "canopy top  2 tenants  by cpu  tenants' cpu 0.60  daemon 45M resident",
            "TENANT                    CPU      MEMORY     CONNS     REQ/S  IN/S OUT/S REF/S",
            "shop                0.50/2.00     12M/64M    30/100   500/500   98K  1.2M    20",
            "ns/bank (draining)     0.10/–      1.5M/–       3/–      10/–  100B  200B     0",
            "",
            "",
            "q quit  Enter workloads  sort: Cpu Mem cOnns Requests Bytes reFused Name",
        ];
        assert_eq!(screen(&mut state), expected);
    }

    #[test]
    fn enter_shows_the_workloads_of_whom_is_selected_and_escape_leads_back() {
        let mut state = State::new(Sort::Name, None);
        screen(&mut state);
        assert_eq!(press(&mut state, KeyCode::Down), Wish::Draw);
        assert_eq!(press(&mut state, KeyCode::Enter), Wish::Draw);
        let shown = screen(&mut state);
        assert!(shown[0].contains("tenant shop") && shown[2].starts_with("shop/cart"), "{shown:?}");
        assert!(shown[4].starts_with("(the cell itself)"), "{shown:?}");
        press(&mut state, KeyCode::Char('c'));
        assert!(screen(&mut state)[2].starts_with("shop/web"));
        press(&mut state, KeyCode::Esc);
        assert!(screen(&mut state)[0].contains("2 tenants"));
        assert_eq!(press(&mut state, KeyCode::Esc), Wish::Nothing);
    }

    #[test]
    fn a_tenant_is_found_by_its_name_whatever_its_state_is_called() {
        let mut state = State::new(Sort::Name, None);
        screen(&mut state);
        press(&mut state, KeyCode::Enter);
        assert!(screen(&mut state)[0].contains("tenant ns/bank "));
    }

    #[test]
    fn q_and_control_c_end_it_and_c_alone_sorts() {
        let mut state = State::new(Sort::Name, None);
        assert_eq!(press(&mut state, KeyCode::Char('q')), Wish::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.press(interrupt), Wish::Quit);
        assert_eq!(press(&mut state, KeyCode::Char('c')), Wish::Draw);
        assert_eq!(state.sort, Sort::Cpu);
        assert_eq!(press(&mut state, KeyCode::Char('x')), Wish::Nothing);
    }

    #[test]
    fn what_is_at_its_bound_is_red_and_what_is_near_it_yellow() {
        let cell = |used| Cell::new(used, Some(100.0), bytes);
        assert_eq!(style(&cell(100.0)).fg, Some(Color::Red));
        assert_eq!(style(&cell(85.0)).fg, Some(Color::Yellow));
        assert_eq!(style(&cell(10.0)).fg, None);
        assert_eq!(style(&Cell::new(1e9, None, bytes)).fg, None);
    }
}
