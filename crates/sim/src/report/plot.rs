//! Plots as SVG: lines over a logarithmic axis of cluster sizes.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// The plot's own area: left, top, right, bottom.
const AREA: (f64, f64, f64, f64) = (90.0, 60.0, 730.0, 340.0);
/// Powers of ten on the axis of sizes.
const SIZES: (i32, i32) = (1, 4);

pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) color: &'static str,
    /// Nodes, and what was measured.
    pub(super) points: Vec<(f64, f64)>,
}

pub(super) struct Plot {
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    /// A value that should not be exceeded, and what it is.
    pub(super) limit: Option<(f64, &'static str)>,
    pub(super) lines: Vec<Line>,
}

impl Plot {
    /// The plot as a standalone SVG, legible on light and dark pages.
    pub(super) fn render(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"14\" role=\"img\">\n\
             <title>{title}</title>\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
             <text x=\"20\" y=\"30\" font-size=\"18\" font-weight=\"bold\">{title}</text>\n\
             <text x=\"20\" y=\"50\" fill=\"#555555\">{unit}, by number of nodes</text>\n",
            title = self.title,
            unit = self.unit,
        );
        let top = self.top();
        self.grid(&mut svg, top);
        if let Some((limit, name)) = self.limit {
            let y = y(limit, top);
            let _ = writeln!(
                svg,
                "<line x1=\"{}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#2e7d32\" \
                 stroke-dasharray=\"6 4\"/>\n<text x=\"{}\" y=\"{:.1}\" fill=\"#2e7d32\" text-anchor=\"end\">{name}</text>",
                AREA.0,
                AREA.2,
                AREA.2,
                y - 6.0
            );
        }
        for (number, line) in self.lines.iter().enumerate() {
            line.render(&mut svg, top, number);
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The value at the upper end of the axis: a little above the greatest, in round steps.
    fn top(&self) -> f64 {
        let values = self.lines.iter().flat_map(|line| line.points.iter().map(|(_, value)| *value));
        let most = values.chain(self.limit.map(|(limit, _)| limit)).fold(1.0, f64::max) * 1.1;
        let power = 10_f64.powf(most.log10().floor());
        [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|step| step * power)
            .find(|top| *top >= most)
            .unwrap_or(most)
    }

    fn grid(&self, svg: &mut String, top: f64) {
        for part in 0..=4 {
            let value = top * f64::from(part) / 4.0;
            let y = y(value, top);
            let _ = writeln!(
                svg,
                "<line x1=\"{}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\n\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>",
                AREA.0,
                AREA.2,
                AREA.0 - 8.0,
                y + 5.0
            );
        }
        for power in SIZES.0..=SIZES.1 {
            let nodes = 10_f64.powi(power);
            let x = x(nodes);
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{}\" stroke=\"#dddddd\"/>\n\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{nodes:.0}</text>",
                AREA.1,
                AREA.3,
                AREA.3 + 20.0
            );
        }
    }
}

impl Line {
    fn render(&self, svg: &mut String, top: f64, number: usize) {
        let color = self.color;
        let points: Vec<String> = self
            .points
            .iter()
            .map(|(nodes, value)| format!("{:.1},{:.1}", x(*nodes), y(*value, top)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2.5\"/>",
            points.join(" ")
        );
        for (nodes, value) in &self.points {
            let (x, y) = (x(*nodes), y(*value, top));
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{color}\"/>");
        }
        let left = AREA.0 + f64::from(u8::try_from(number % 2).unwrap_or(0)) * 320.0;
        let row = AREA.3 + 44.0 + f64::from(u8::try_from(number / 2).unwrap_or(0)) * 20.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{}\" width=\"18\" height=\"4\" fill=\"{color}\"/>\n\
             <text x=\"{}\" y=\"{row}\">{}</text>",
            row - 7.0,
            left + 26.0,
            self.name
        );
    }
}

fn x(nodes: f64) -> f64 {
    let (low, high) = (f64::from(SIZES.0), f64::from(SIZES.1));
    AREA.0 + (nodes.max(1.0).log10() - low) / (high - low) * (AREA.2 - AREA.0)
}

fn y(value: f64, top: f64) -> f64 {
    AREA.3 - value / top * (AREA.3 - AREA.1)
}
