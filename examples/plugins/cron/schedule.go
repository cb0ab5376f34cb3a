package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // a plugin's machine may have none

	"github.com/robfig/cron/v3"
)

// schedule is when a job comes due.
type schedule struct {
	cron cron.Schedule
	zone *time.Location
}

// parse understands a schedule in a time zone. The error says which of the two
// is wrong: errSchedule or errZone.
func parse(spec, zone string) (schedule, error) {
	if len(spec) > 256 || strings.Contains(spec, "TZ=") {
		return schedule{}, fmt.Errorf("%w must be at most 256 bytes, without TZ=: there is time_zone", errSchedule)
	}
	loc, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		return schedule{}, fmt.Errorf("%w is %q, must be a name such as Europe/Berlin", errZone, zone)
	}
	parser := cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
	c, err := parser.Parse(spec)
	if err != nil {
		return schedule{}, fmt.Errorf("%w is %q: %w", errSchedule, spec, err)
	}
	s := schedule{cron: c, zone: loc}
	if s.next(time.Now()).IsZero() {
		return schedule{}, fmt.Errorf("%w is %q, which never comes", errSchedule, spec)
	}
	return s, nil
}

var (
	errSchedule = errors.New("schedule:")
	errZone     = errors.New("time_zone:")
)

// next returns the first time after t, or the zero time if there is none within
// five years.
func (s schedule) next(t time.Time) time.Time {
	n := s.cron.Next(t.In(s.zone))
	for !n.IsZero() && s.hasHours() && repeated(n) {
		n = s.cron.Next(n)
	}
	return n
}

// hasHours says that the schedule names hours of the day. One that does not, such
// as every ten minutes, goes on as usual while clocks are put back.
func (s schedule) hasHours() bool {
	const star = 1 << 63 // the library's mark
	spec, ok := s.cron.(*cron.SpecSchedule)
	return ok && spec.Hour&star == 0
}

// repeated says that clocks showed t's time of day once before, since they have
// been put back.
func repeated(t time.Time) bool {
	_, now := t.Zone()
	_, before := t.Add(-3 * time.Hour).Zone()
	back := time.Duration(before-now) * time.Second
	if back <= 0 {
		return false
	}
	_, then := t.Add(-back).Zone()
	return then == before
}

// between returns the latest n times after from, up to and with to, the oldest
// first, and whether there are more. It looks back from the end, for a schedule
// of seconds whose hosts were away for a year.
func (s schedule) between(from, to time.Time, n int) (times []time.Time, more bool) {
	for span := time.Hour; ; span *= 2 {
		start := to.Add(-span)
		last := !start.After(from)
		if last {
			start = from
		}
		times = times[:0]
		for t := s.next(start); !t.IsZero() && !t.After(to); t = s.next(t) {
			times = append(times, t)
		}
		if last || len(times) > n {
			break
		}
	}
	if len(times) > n {
		return times[len(times)-n:], true
	}
	return times, false
}
