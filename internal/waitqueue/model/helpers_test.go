package model

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

func writer(session int) Acquirer { return Acquirer{Session: session} }

func reader(session int) Acquirer { return Acquirer{Session: session, Kind: Reader} }

func permits(session int, n, limit int8) Acquirer {
	return Acquirer{Session: session, Kind: Permits, Permits: n, Limit: limit}
}

func urgent(q Acquirer, urgency int8) Acquirer {
	q.Urgency = urgency
	return q
}

func tries(q Acquirer) Acquirer {
	q.Try = true
	return q
}

func lowers(q Acquirer) Acquirer {
	q.Lowers = true
	return q
}

func delays(q Acquirer) Acquirer {
	q.Delays = true
	return q
}

func after(q Acquirer, a int) Acquirer {
	q.After = a
	return q
}

func all(q ...Acquirer) []Acquirer { return q }

// wants is a member of a set's configuration.
func wants(urgency int8, names ...int) Member { return Member{Names: names, Urgency: urgency} }

func members(q ...Member) []Member { return q }

// size says when a configuration is searched.
type size int

const (
	small  size = iota // always
	medium             // not under the race detector, and not with -short
	large              // with CONCLAVE_SOAK=1
)

func soaking() bool { return os.Getenv("CONCLAVE_SOAK") == "1" }

func (z size) skip(t *testing.T) {
	t.Helper()
	switch {
	case z == large && !soaking():
		t.Skip("a search of many seconds: set CONCLAVE_SOAK=1")
	case z == medium && testing.Short():
		t.Skip("a search of more than about 100,000 states: run without -short")
	case z == medium && raceEnabled:
		t.Skip("a search of more than about 100,000 states: run without -race, it has one goroutine")
	}
}

const bound = 40_000_000

// documented reads the tables of docs/protocol.md and docs/protocol-election.md once.
var documented = sync.OnceValues(func() (string, error) {
	text, err := os.ReadFile("../../../docs/protocol.md")
	election, err2 := os.ReadFile("../../../docs/protocol-election.md")
	return string(text) + string(election), errors.Join(err, err2)
})

// mustHold fails unless the search was complete, found nothing, and found as much as the documentation says.
func mustHold(t *testing.T, name string, r Result) {
	t.Helper()
	if r.Violation != "" || r.Cut {
		t.Fatalf("%s: %s", name, r)
	}
	row := fmt.Sprintf("| %s | %s | %s | %d |", name, thousands(r.States), thousands(r.Steps), r.Depth)
	t.Log(row)
	text, err := documented()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, row) {
		t.Errorf("docs/protocol.md and docs/protocol-election.md do not have this row, which this search found:\n%s", row)
	}
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
