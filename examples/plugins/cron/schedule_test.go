package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	cronv1 "example.com/conclave-cron/proto/example/cron/v1"
)

func day(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// Clocks in Berlin went forward on 29 March 2026 at 2:00, and back on 25 October
// at 3:00.
func TestClocksThatChange(t *testing.T) {
	for _, c := range []struct{ spec, from, to, want string }{
		{"30 2 * * *", "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z", "28T02:30:00+01:00 30T02:30:00+02:00"},
		{"30 2 * * *", "2026-10-24T00:00:00Z", "2026-10-26T12:00:00Z", "24T02:30:00+02:00 25T02:30:00+02:00 26T02:30:00+01:00"},
		{"*/30 * * * *", "2026-10-24T23:59:00Z", "2026-10-25T02:00:00Z", "25T02:00:00+02:00 25T02:30:00+02:00 25T02:00:00+01:00 25T02:30:00+01:00 25T03:00:00+01:00"},
		{"@daily", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z", "25T00:00:00+02:00 26T00:00:00+01:00"},
		{"0 0 3 * * *", "2026-10-24T12:00:00Z", "2026-10-26T01:00:00Z", "25T03:00:00+01:00"},
	} {
		s, err := parse(c.spec, "Europe/Berlin")
		if err != nil {
			t.Fatal(err)
		}
		times, _ := s.between(day(t, c.from), day(t, c.to), 100)
		var got []string
		for _, at := range times {
			got = append(got, at.Format("02T15:04:05Z07:00"))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %s\nwant %s", c.spec, got, c.want)
		}
	}
}

// A schedule of seconds over ten years is not gone through one by one.
func TestLongAway(t *testing.T) {
	s, err := parse("* * * * * *", "")
	if err != nil {
		t.Fatal(err)
	}
	to := day(t, "2026-01-01T00:00:00Z")
	times, more := s.between(to.AddDate(-10, 0, 0), to, 3)
	if len(times) != 3 || !more || !times[2].Equal(to) || !times[0].Equal(to.Add(-2*time.Second)) {
		t.Errorf("%v, %t", times, more)
	}
	yearly, err := parse("@yearly", "")
	if err != nil {
		t.Fatal(err)
	}
	if times, more := yearly.between(to.AddDate(-10, 0, 0), to, 100); len(times) != 10 || more {
		t.Errorf("%d years, %t", len(times), more)
	}
}

func TestBadSchedules(t *testing.T) {
	for spec, want := range map[string]error{
		"": errSchedule, "* * * *": errSchedule, "61 * * * *": errSchedule, "0 0 30 2 *": errSchedule, "TZ=0": errSchedule,
		"CRON_TZ=UTC 0 0 * * *": errSchedule, "@often": errSchedule, "@every 0s": nil, strings.Repeat("1,", 200) + "1 * * * *": errSchedule,
	} {
		if _, err := parse(spec, ""); !errors.Is(err, want) {
			t.Errorf("%q: %v", spec, err)
		}
	}
	for _, zone := range []string{"Mars/Olympus", "Local", "../etc/passwd"} {
		if _, err := parse("@daily", zone); !errors.Is(err, errZone) {
			t.Errorf("%q: %v", zone, err)
		}
	}
}

// What becomes of five times that passed unseen, and of the next ones while no
// worker comes.
func TestMisfires(t *testing.T) {
	start := day(t, "2026-11-23T12:00:00Z")
	for _, c := range []struct {
		policy         cronv1.Misfire
		catchUp        int32
		first, waiting string
		missed         int
	}{
		{cronv1.Misfire_MISFIRE_ONCE, 10, "50", "00", 5},
		{cronv1.Misfire_MISFIRE_SKIP, 10, "50", "00", 5},
		{cronv1.Misfire_MISFIRE_ALL, 10, "10 20 30 40 50", "10 20 30 40 50 00", 0},
		{cronv1.Misfire_MISFIRE_ALL, 3, "30 40 50", "40 50 00", 3},
	} {
		j := job{V: 1, Name: "j", Schedule: "*/10 * * * *", Misfire: c.policy, CatchUp: c.catchUp, MaxAttempts: 3, Last: start.UnixMilli()}
		j, changed := j.advance(start.Add(50*time.Minute + 30*time.Second))
		if got := minutes(j); got != c.first || !changed {
			t.Errorf("%s: %s", c.policy, got)
		}
		if _, again := j.advance(start.Add(50*time.Minute + 31*time.Second)); again {
			t.Errorf("%s: decided twice", c.policy)
		}
		if c.policy == cronv1.Misfire_MISFIRE_SKIP {
			if wake := j.wake(); !wake.Equal(start.Add(51*time.Minute + time.Millisecond)) {
				t.Errorf("wakes at %s", wake)
			}
		}
		j, _ = j.advance(start.Add(60*time.Minute + time.Second))
		if got := minutes(j); got != c.waiting || len(j.Past) != c.missed {
			t.Errorf("%s, later: %s, %d missed", c.policy, got, len(j.Past))
		}
	}
}

// A run that a worker has had, or that somebody asked for, is not displaced.
func TestMisfiresSpareWhatHasBegun(t *testing.T) {
	start := day(t, "2026-11-23T12:00:00Z")
	j := job{V: 1, Schedule: "*/10 * * * *", Misfire: cronv1.Misfire_MISFIRE_ONCE, CatchUp: 10, MaxAttempts: 3, Last: start.UnixMilli()}
	j, _ = j.advance(start.Add(10 * time.Minute))
	j = j.claim(0, "ada", start)
	j.Waiting = append(j.Waiting, waiting{ID: "asked", Due: start.UnixMilli(), Asked: true})
	j, _ = j.advance(start.Add(40 * time.Minute))
	if got := minutes(j); got != "10 00 40" {
		t.Error(got)
	}
}

func minutes(j job) string {
	var s []string
	for _, w := range j.Waiting {
		s = append(s, time.UnixMilli(w.Due).UTC().Format("04"))
	}
	return strings.Join(s, " ")
}

func TestAttempts(t *testing.T) {
	now := day(t, "2026-11-23T12:00:00Z")
	j := job{V: 1, MaxAttempts: 3, Waiting: []waiting{{ID: "a"}}}
	var waits []time.Duration
	for i := range int64(3) {
		j = j.claim(0, "ada", now)
		var retried bool
		if j, retried = j.finish(0, i+1, "no", now); !retried {
			break
		}
		waits = append(waits, time.UnixMilli(j.Waiting[0].NotBefore).Sub(now))
	}
	if !slices.Equal(waits, []time.Duration{time.Second, 2 * time.Second}) {
		t.Error(waits)
	}
	if p, ok := j.over("a"); !ok || p.Outcome != cronv1.Outcome_OUTCOME_FAILED || p.Attempts != 3 || p.Error != "no" || p.Token != 3 {
		t.Errorf("%+v", p)
	}
}
