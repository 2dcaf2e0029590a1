package schema

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time as documents write it: 90s, 5m, 12h, 30d, 2w,
// or several of them as in 1d12h.
type Duration time.Duration

var durationPart = regexp.MustCompile(`^(\d+(?:\.\d+)?)(ms|s|m|h|d|w)`)

// ParseDuration reads a Duration. 0 needs no unit.
func ParseDuration(s string) (Duration, error) {
	units := map[string]time.Duration{
		"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
		"d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
	}
	bad := fmt.Errorf("not a duration: %q (write 90s, 5m, 12h, 30d or 2w)", s)
	if s == "0" {
		return 0, nil
	}
	var sum float64
	for rest := s; rest != ""; {
		m := durationPart.FindStringSubmatch(rest)
		if m == nil {
			return 0, bad
		}
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			return 0, bad
		}
		sum += n * float64(units[m[2]])
		rest = rest[len(m[0]):]
	}
	if s == "" {
		return 0, bad
	}
	if sum > float64(100*366*24*time.Hour) {
		return 0, fmt.Errorf("duration %q is longer than 100 years", s)
	}
	return Duration(sum), nil
}

// String returns the duration in the form that ParseDuration reads.
func (d Duration) String() string {
	rest := time.Duration(d)
	if rest == 0 {
		return "0s"
	}
	var b strings.Builder
	if rest < 0 {
		b.WriteByte('-')
		rest = -rest
	}
	if days := rest / (24 * time.Hour); days > 0 {
		fmt.Fprintf(&b, "%dd", days)
		rest -= days * 24 * time.Hour
	}
	for _, u := range []struct {
		name string
		size time.Duration
	}{{"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}} {
		if n := rest / u.size; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			rest -= n * u.size
		}
	}
	return b.String()
}

// Std returns the duration as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }
