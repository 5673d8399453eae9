//! Interleaved rounds (A B C, B C A, …) and the medians of their ratios.

/// How often and how much is measured.
#[derive(Debug, Clone)]
pub struct Scale {
    /// Rounds; each measures every contender once.
    pub rounds: usize,
}

/// With fewer rounds one unlucky moment decides.
const LEAST_ROUNDS: usize = 5;

impl Scale {
    /// `ROUNDS` of the environment, at least five.
    pub fn from_environment() -> Self {
        let wanted = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok());
        Self { rounds: wanted.unwrap_or(LEAST_ROUNDS).max(LEAST_ROUNDS) }
    }
}

/// Who is measured, and how.
pub struct Contender<'a> {
    pub name: String,
    /// Measures once: the same figures in the same order every time.
    pub measure: Box<dyn FnMut() -> Vec<f64> + 'a>,
}

impl<'a> Contender<'a> {
    pub fn new(name: impl Into<String>, measure: impl FnMut() -> Vec<f64> + 'a) -> Self {
        Self { name: name.into(), measure: Box::new(measure) }
    }
}

/// Whether more of a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

/// One figure of every contender.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub better: Better,
}

/// A ratio that one contender is to reach against the reference.
#[derive(Debug, Clone, Copy)]
pub struct Goal<'a> {
    pub contender: &'a str,
    pub against: &'a str,
    pub figure: usize,
    pub ratio: f64,
}

/// Measures every contender in every round, the first of them being the reference, and prints the ratios.
pub fn compare(
    title: &str,
    scale: &Scale,
    figures: &[Figure],
    mut contenders: Vec<Contender<'_>>,
    goals: &[Goal<'_>],
) {
    println!("\n## {title}");
    let count = contenders.len();
    // Not counted: caches are cold, and what is wrong shows here.
    contenders.iter_mut().for_each(|contender| drop((contender.measure)()));
    let mut seen = vec![vec![Vec::new(); figures.len()]; count];
    for round in 0..scale.rounds {
        for step in 0..count {
            let at = (round + step) % count;
            let sample = (contenders[at].measure)();
            assert_eq!(sample.len(), figures.len(), "{}", contenders[at].name);
            sample.into_iter().enumerate().for_each(|(figure, value)| seen[at][figure].push(value));
        }
    }
    for (figure, Figure { name, unit, better }) in figures.iter().enumerate() {
        let sense = if *better == Better::More { "more is better" } else { "less is better" };
        let reference = &seen[0][figure];
        println!(
            "{name}, against {} ({sense}; median of {} ratios, lowest, highest)",
            contenders[0].name, scale.rounds
        );
        for (contender, values) in contenders.iter().zip(&seen) {
            let ratios = ratios(&values[figure], reference);
            if ratios.iter().any(|ratio| ratio.is_nan()) {
                continue; // This one has no such figure.
            }
            let (low, high) = extremes(&ratios);
            let feel = median(&values[figure]);
            println!(
                "  {:<34} {:>6.2}  {low:>6.2} {high:>6.2}   [{feel:.3} {unit}]",
                contender.name,
                median(&ratios)
            );
        }
    }
    for goal in goals {
        let find = |name: &str| contenders.iter().position(|contender| contender.name == name);
        let (Some(ours), Some(theirs)) = (find(goal.contender), find(goal.against)) else { continue };
        let got = median(&ratios(&seen[ours][goal.figure], &seen[theirs][goal.figure]));
        let (sign, met) = match figures[goal.figure].better {
            Better::More => ("at least", got >= goal.ratio),
            Better::Less => ("at most", got <= goal.ratio),
        };
        let verdict = if met { "met" } else { "MISSED" };
        let (name, against) = (figures[goal.figure].name, goal.against);
        println!("goal {verdict}: {name} {got:.2} of {against}, wanted {sign} {:.2}", goal.ratio);
    }
}

fn ratios(values: &[f64], reference: &[f64]) -> Vec<f64> {
    values.iter().zip(reference).map(|(value, reference)| value / reference.max(f64::MIN_POSITIVE)).collect()
}

/// The middle value; of an even number the mean of the two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

fn extremes(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}
