//! CSV: rows of numbers, without a header line.

use crate::runtime::{
    RuntimeError,
    tensor::{DType, Element, MAX_ELEMENTS, TensorData, for_dtype, with_elements},
};
use std::{fmt::Display, io::Write, str::FromStr};

/// Longest part of a bad cell that an error repeats.
const MAX_SHOWN: usize = 32;

/// Reads rows of equally many numbers.
///
/// One row or one column becomes a vector, as `NumPy`'s `genfromtxt` has it, unless `shape` has more
/// dimensions: then each row is one item of the batch, cut to the shape of an item.
pub fn decode(
    body: &[u8],
    dtype: DType,
    shape: Option<&[i64]>,
) -> Result<TensorData, RuntimeError> {
    let text = std::str::from_utf8(body).map_err(|_| bad("the CSV is not UTF-8".to_owned()))?;
    let table = for_dtype!(dtype, T => table::<T>(text))?;
    let shape = fitted(table.n_rows, table.n_columns, shape);
    let shape = shape.into_iter().map(|n| i64::try_from(n).unwrap_or(i64::MAX)).collect();
    Ok(TensorData { shape, elements: table.elements })
}

struct Table {
    n_rows: usize,
    n_columns: usize,
    elements: crate::runtime::tensor::Elements,
}

fn table<T: Element + Cell>(text: &str) -> Result<Table, RuntimeError> {
    let mut values = Vec::new();
    let (mut n_rows, mut n_columns) = (0, 0);
    // `lines` takes the carriage return of Windows' line ends away.
    for (idx, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let n_before = values.len();
        for (column, cell) in line.split(',').enumerate() {
            let value = T::parse(cell.trim());
            values.push(value.ok_or_else(|| bad_cell::<T>(idx + 1, column + 1, cell))?);
        }
        let n_cells = values.len() - n_before;
        if n_rows > 0 && n_cells != n_columns {
            let row = idx + 1;
            let text = format!("row {row} of the CSV has {n_cells} cells, those above {n_columns}");
            return Err(bad(text));
        }
        if values.len() > MAX_ELEMENTS {
            return Err(bad(format!("the CSV has more than {MAX_ELEMENTS} cells")));
        }
        n_columns = n_cells;
        n_rows += 1;
    }
    if n_rows == 0 {
        return Err(bad("the CSV has no rows".to_owned()));
    }
    Ok(Table { n_rows, n_columns, elements: T::wrap(values) })
}

fn bad_cell<T: Element>(row: usize, column: usize, cell: &str) -> RuntimeError {
    let dtype = T::DTYPE.as_str();
    let shown: String = cell.trim().chars().take(MAX_SHOWN).collect();
    bad(format!("row {row}, column {column} of the CSV: {shown:?} is not a {dtype}"))
}

/// Returns the shape that a table takes: that of `wanted` where its items fit, else its own.
fn fitted(n_rows: usize, n_columns: usize, wanted: Option<&[i64]>) -> Vec<usize> {
    let Some([_, item @ ..]) = wanted.filter(|it| it.len() > 1) else {
        return match (n_rows, n_columns) {
            (1, n) | (n, 1) => vec![n],
            (n_rows, n_columns) => vec![n_rows, n_columns],
        };
    };
    let item: Option<Vec<usize>> = item.iter().map(|it| usize::try_from(*it).ok()).collect();
    match item {
        Some(item) if item.iter().product::<usize>() == n_columns => [vec![n_rows], item].concat(),
        _ => vec![n_rows, n_columns],
    }
}

/// How a cell is read. `nan` and `inf` are numbers here, as `NumPy` writes them.
trait Cell: Sized {
    fn parse(cell: &str) -> Option<Self>;
}

macro_rules! float_cell {
    ($($t:ty),*) => {
        $(impl Cell for $t {
            fn parse(cell: &str) -> Option<Self> {
                let is_infinity = || {
                    let name = cell.strip_prefix(['+', '-']).unwrap_or(cell);
                    ["inf", "infinity"].iter().any(|it| name.eq_ignore_ascii_case(it))
                };
                // A number beyond the type's range is read as infinity, which nobody wrote.
                <$t>::from_str(cell).ok().filter(|it| !it.is_infinite() || is_infinity())
            }
        })*
    };
}
float_cell!(f32, f64);

macro_rules! int_cell {
    ($($t:ty),*) => {
        $(impl Cell for $t {
            fn parse(cell: &str) -> Option<Self> {
                // `1.0` is a whole number too.
                let whole = || f64::from_str(cell).ok().and_then(<$t as Element>::from_f64);
                <$t>::from_str(cell).ok().or_else(whole)
            }
        })*
    };
}
int_cell!(i64, i32, i16, i8, u8);

impl Cell for bool {
    fn parse(cell: &str) -> Option<Self> {
        match cell {
            "0" | "false" | "False" => Some(false),
            "1" | "true" | "True" => Some(true),
            _ => None,
        }
    }
}

/// Writes a scalar, a vector (one number a line) or a matrix, as `NumPy`'s `savetxt` does.
pub fn encode(tensor: &TensorData) -> Result<Vec<u8>, RuntimeError> {
    let n_columns = match tensor.shape.as_slice() {
        [] | [_] => 1,
        [_, n] => usize::try_from(*n).unwrap_or(0),
        _ => {
            return Err(RuntimeError::NotAcceptable(
                "text/csv".to_owned(),
                "this model's answer has more than two dimensions",
            ));
        }
    };
    let mut body = Vec::new();
    with_elements!(&tensor.elements, values => write_rows(&mut body, values, n_columns));
    Ok(body)
}

fn write_rows<T: Display>(body: &mut Vec<u8>, values: &[T], n_columns: usize) {
    for row in values.chunks(n_columns.max(1)) {
        for (column, value) in row.iter().enumerate() {
            let comma = if column == 0 { "" } else { "," };
            write!(body, "{comma}{value}").expect("writing into memory cannot fail");
        }
        body.push(b'\n');
    }
}

fn bad(text: String) -> RuntimeError {
    RuntimeError::BadInput(text)
}
