/// The number that a quantity of Kubernetes stands for, such as `250m` or `64Gi`; of what is none, 0.
pub(crate) fn quantity(text: &str) -> f64 {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        _ => return 0.0,
    };
    digits.parse::<f64>().map_or(0.0, |number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_with_their_suffix() {
        for (text, number) in [
            ("2", 2.0),
            ("250m", 0.25),
            ("1.5Gi", 1.5 * 1_073_741_824.0),
            ("1e3", 1000.0),
            ("2P", 2e15),
            ("1Ei", 1_152_921_504_606_846_976.0),
            ("64Xi", 0.0),
            ("", 0.0),
        ] {
            assert_eq!(quantity(text), number, "{text}");
        }
    }
}
