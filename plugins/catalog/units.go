package catalog

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// A Duration is a length of time, in YAML as text such as 15s.
type Duration time.Duration

// UnmarshalJSON reads text such as "15s".
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("%s is not a length of time such as 15s", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a length of time such as 15s", s)
	}
	*d = Duration(v)
	return nil
}

// MarshalJSON writes text such as "15s".
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// A Size is a number of bytes, in YAML a number or text such as 256MiB.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// UnmarshalJSON reads a whole number of bytes, or text such as "256MiB".
func (s *Size) UnmarshalJSON(b []byte) error {
	var n int64
	if json.Unmarshal(b, &n) == nil {
		*s = Size(n)
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("%s is not a number of bytes such as 256MiB", b)
	}
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		var n int64
		if _, err := fmt.Sscanf(digits+";", "%d;", &n); err != nil || n < 0 || n > maxMemory/u.bytes {
			break
		}
		*s = Size(n * u.bytes)
		return nil
	}
	return fmt.Errorf("%q is not a number of bytes such as 256MiB, of at most 1TiB", text)
}

// MarshalJSON writes text such as "256MiB".
func (s Size) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// String writes the size in the largest unit of which it is a whole number.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if int64(s) >= u.bytes && int64(s)%u.bytes == 0 {
			return fmt.Sprintf("%d%s", int64(s)/u.bytes, u.name)
		}
	}
	return "0B"
}
