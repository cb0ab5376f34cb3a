package model

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	search "github.com/conclavehq/conclave/internal/waitqueue/model"
)

// each returns one arrival of every session.
func each(sessions ...int) []Arrival {
	var all []Arrival
	for _, s := range sessions {
		all = append(all, Arrival{Session: s})
	}
	return all
}

// twice is two sessions that come two times each.
func twice() []Arrival { return []Arrival{{0, 0}, {1, 0}, {0, 1}, {1, 2}} }

// effort says when a configuration is searched.
type effort int

const (
	always effort = iota
	usual         // not under the race detector, and not with -short
	soak          // with CONCLAVE_SOAK=1
)

func (e effort) skip(t *testing.T) {
	t.Helper()
	switch {
	case e == soak && os.Getenv("CONCLAVE_SOAK") != "1":
		t.Skip("a search of many seconds: set CONCLAVE_SOAK=1")
	case e == usual && testing.Short():
		t.Skip("a search of more than about 50,000 states: run without -short")
	case e == usual && raceEnabled:
		t.Skip("a search of more than about 50,000 states: run without -race, it has one goroutine")
	}
}

const bound = 30_000_000

// documented is the page that has a row for every search.
var documented = sync.OnceValues(func() (string, error) {
	text, err := os.ReadFile("../../../../docs/protocol-barrier.md")
	return string(text), err
})

// mustHold fails unless the search was complete, found nothing, and found as
// much as the documentation says.
func mustHold(t *testing.T, name string, r search.Result) {
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
		t.Errorf("docs/protocol-barrier.md does not have this row, which this search found:\n%s", row)
	}
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
