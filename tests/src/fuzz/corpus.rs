//! A corpus in one file: each input behind its length, two bytes, the first the higher one.

/// Takes it apart. A half input at the end is left out.
pub fn unpack(mut packed: &[u8]) -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    while let Some((len, rest)) = packed.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes(*len));
        let Some((input, rest)) = rest.split_at_checked(len) else {
            break;
        };
        inputs.push(input.to_vec());
        packed = rest;
    }
    inputs
}

/// Puts it together, the shortest first, each once. Inputs whose length does not fit in two bytes are left out.
pub fn pack(mut inputs: Vec<Vec<u8>>) -> Vec<u8> {
    inputs.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    inputs.dedup();
    let mut packed = Vec::new();
    for input in inputs {
        if let Ok(len) = u16::try_from(input.len()) {
            packed.extend_from_slice(&len.to_be_bytes());
            packed.extend_from_slice(&input);
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corpus_comes_out_as_it_went_in() {
        let packed = pack(vec![vec![7; 300], vec![], vec![1, 2], vec![], vec![0; 1 << 16]]);
        assert_eq!(unpack(&packed), [vec![], vec![1, 2], vec![7; 300]]);
        assert_eq!(unpack(&packed[..packed.len() - 1]).len(), 2);
    }
}
