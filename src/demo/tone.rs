//! The simulated camera's audio: a short soft beep every second, in G.711 µ-law. Pure.

/// Samples per RTP packet: 20 ms at 8 kHz.
pub const SAMPLES: usize = 160;

const RATE: f64 = 8000.0;
const PITCH: f64 = 440.0;

/// The packet that begins with sample number `from` since the start.
pub fn packet(from: u64) -> Vec<u8> {
    (from..from + SAMPLES as u64).map(|sample| mu_law(level(sample))).collect()
}

fn level(sample: u64) -> i16 {
    let second = (sample % RATE as u64) as f64 / RATE;
    // 150 ms with a rise and fall of 10 ms, so that it does not click.
    let envelope = (second / 0.01).min((0.15 - second) / 0.01).clamp(0.0, 1.0);
    (envelope * 6000.0 * (std::f64::consts::TAU * PITCH * second).sin()) as i16
}

/// ITU-T G.711, table 2a.
fn mu_law(sample: i16) -> u8 {
    const BIAS: i32 = 0x84;
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = (i32::from(sample).abs() + BIAS).min(0x7fff);
    let exponent = (magnitude.ilog2() as i32 - 7).clamp(0, 7);
    let mantissa = magnitude >> (exponent + 3) & 0x0f;
    !(sign | (exponent << 4 | mantissa) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_of_mu_law() {
        for (sample, code) in
            [(0, 0xff), (-1, 0x7f), (32767, 0x80), (-32768, 0x00), (1000, 0xce), (-1000, 0x4e)]
        {
            assert_eq!(mu_law(sample), code, "{sample}");
        }
    }

    #[test]
    fn beeps_and_is_silent() {
        assert!(packet(400).iter().any(|&code| code & 0x7f < 0x40));
        assert!(packet(4000).iter().all(|&code| code == 0xff));
    }
}
