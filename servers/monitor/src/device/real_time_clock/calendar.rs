//! The proleptic Gregorian calendar, in the fields that the clock shows.
//!
//! Day arithmetic counts years from March, so that the leap day is the last of its year.

use serde::{Deserialize, Serialize};

use super::CENTURY;

const DAYS_PER_ERA: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: i64 = 719_468;

/// A date and time in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DateTime {
    year: i64,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl DateTime {
    /// From seconds since 1970.
    pub fn from_seconds(seconds: i64) -> Self {
        let days = seconds.div_euclid(86_400).saturating_add(DAYS_BEFORE_1970);
        let of_day = seconds.rem_euclid(86_400);
        let era = days.div_euclid(DAYS_PER_ERA);
        let day_of_era = days.rem_euclid(DAYS_PER_ERA);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = (march_month + 2) % 12 + 1;
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month: month as u8,
            day: (day_of_year - (153 * march_month + 2) / 5 + 1) as u8,
            hour: (of_day / 3600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
        }
    }

    /// Seconds since 1970. Fields beyond their range carry over.
    pub fn to_seconds(self) -> i64 {
        let month = i64::from(self.month.clamp(1, 12));
        let year = self.year - i64::from(month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let march_month = (month + 9) % 12;
        let day_of_year = (153 * march_month + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * DAYS_PER_ERA + day_of_era - DAYS_BEFORE_1970;
        days * 86_400
            + i64::from(self.hour) * 3600
            + i64::from(self.minute) * 60
            + i64::from(self.second)
    }

    /// The binary value of clock register `index`.
    pub fn field(&self, index: u8) -> u8 {
        match index {
            0 => self.second,
            2 => self.minute,
            4 => self.hour,
            // 1 is Sunday; 1970-01-01 was a Thursday.
            6 => ((self.to_seconds().div_euclid(86_400) + 4).rem_euclid(7) + 1) as u8,
            7 => self.day,
            8 => self.month,
            9 => self.year.rem_euclid(100) as u8,
            CENTURY => self.year.div_euclid(100).rem_euclid(100) as u8,
            _ => 0,
        }
    }

    /// Sets clock register `index`. The day of the week follows from the date.
    pub fn set_field(&mut self, index: u8, value: u8) {
        match index {
            0 => self.second = value,
            2 => self.minute = value,
            4 => self.hour = value,
            7 => self.day = value,
            8 => self.month = value,
            9 => self.year = self.year.div_euclid(100) * 100 + i64::from(value),
            CENTURY => self.year = i64::from(value) * 100 + self.year.rem_euclid(100),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(seconds: i64) -> (i64, u8, u8, u8, u8, u8) {
        let at = DateTime::from_seconds(seconds);
        (at.year, at.month, at.day, at.hour, at.minute, at.second)
    }

    #[test]
    fn known_moments_have_their_known_dates() {
        assert_eq!(fields(0), (1970, 1, 1, 0, 0, 0));
        assert_eq!(fields(951_782_399), (2000, 2, 28, 23, 59, 59));
        assert_eq!(fields(951_782_400), (2000, 2, 29, 0, 0, 0));
        assert_eq!(fields(4_107_542_400), (2100, 3, 1, 0, 0, 0));
        assert_eq!(fields(-1), (1969, 12, 31, 23, 59, 59));
        assert_eq!(DateTime::from_seconds(0).field(6), 5, "a Thursday");
    }

    proptest! {
        #[test]
        fn a_moment_survives_the_calendar(seconds in -100_000_000_000i64..1_000_000_000_000) {
            prop_assert_eq!(DateTime::from_seconds(seconds).to_seconds(), seconds);
        }

        #[test]
        fn no_field_value_panics(seconds: i64, writes in proptest::collection::vec((0u8..64, any::<u8>()), 0..20)) {
            let mut calendar = DateTime::from_seconds(seconds / 2);
            for (index, value) in writes {
                calendar.set_field(index, value);
                let _ = calendar.field(index);
                let _ = calendar.to_seconds();
            }
        }
    }
}
