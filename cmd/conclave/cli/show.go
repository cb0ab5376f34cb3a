package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func tokenText(token int64) string {
	if token == 0 {
		return ""
	}
	return strconv.FormatInt(token, 10)
}

func timeOf(ts *timestamppb.Timestamp) *time.Time {
	if ts == nil {
		return nil
	}
	t := ts.AsTime()
	return &t
}

// spanOf is a duration as the API's JSON has it: "15s", "1.500s".
func spanOf(d *durationpb.Duration) *string {
	if d == nil {
		return nil
	}
	s := strconv.FormatFloat(d.AsDuration().Seconds(), 'f', -1, 64) + "s"
	return &s
}

// when is a time for a table: how long ago for a person, exact for a program.
func (a *app) when(ts *timestamppb.Timestamp) string {
	switch {
	case ts == nil:
		return "-"
	case isTerminal(a.stdout):
		return ago(time.Since(ts.AsTime()))
	}
	return ts.AsTime().Format(time.RFC3339)
}

func ago(d time.Duration) string { return roughly(d) + " ago" }

// roughly is a duration as a person says it.
func roughly(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Hour:
		return short(d.Round(time.Second))
	case d < 48*time.Hour:
		return short(d.Round(time.Minute))
	}
	return strconv.Itoa(int(d.Hours())/24) + "d"
}

func lifetime(d *durationpb.Duration) string {
	if d == nil {
		return "-"
	}
	return roughly(d.AsDuration())
}

// clean takes out of a value from elsewhere what could speak to a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// quoted is a name as a shell takes it.
func quoted(s string) string {
	safe := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-./:@%+=,", r)
	}
	if s != "" && !strings.ContainsFunc(s, safe) && s[0] != '-' {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// atMost is how long something lasted, which may be the most that it can have been.
func atMost(d *durationpb.Duration, bound bool) string {
	if bound {
		return "at most " + lifetime(d)
	}
	return lifetime(d)
}

// byAndWhy is who ended something and why, for a table.
func byAndWhy(by, reason string) string {
	if reason == "" {
		return clean(by)
	}
	return strings.TrimPrefix(clean(by)+": "+clean(reason), ": ")
}

// A gap is a stretch of etcd's revisions that no host has seen.
type gap interface {
	GetFromRevision() int64
	GetToRevision() int64
}

// noteGaps says what may be missing in a history with so many entries.
func noteGaps[G gap](a *app, t target, entries int, gaps []G) {
	for _, g := range gaps {
		a.note(fmt.Sprintf("endings may be missing: no host saw revisions %d to %d of etcd", g.GetFromRevision(), g.GetToRevision()))
	}
	if entries == 0 && t.direct() {
		a.note("nothing is recorded: hosts write the history, and it is empty where none has run")
	}
}
