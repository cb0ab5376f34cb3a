package election_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/election"
)

// FuzzCampaign tries names, values and options: a campaign works, what it says is
// read as it was said, and nothing is left; or it says core.ErrInvalid.
func FuzzCampaign(f *testing.F) {
	f.Add("orders", "10.0.0.1:80", "later", "nightly", "eu-1", 0, 0, 1, int64(0))
	f.Add("a/b/c/d/e/f/g/h/i", `{"x":"\u2028"}`, "", "", `"`, 3, 128, 2, int64(-1))
	f.Add("..", "\x00", "\xff", "\x00", "\n", 16, -129, 0, int64(time.Hour))
	f.Add("%2F/_host", strings.Repeat("<", 4096), strings.Repeat("x", 4097), "p", "", 15, 5, 1001, int64(time.Second))
	f.Add("größe", `,"since":"`, `"}`, "", `,"since":"`, 1, -128, 1000, int64(time.Millisecond))
	f.Fuzz(func(t *testing.T, name, value, later, purpose, zone string, rank, priority, seats int, grace int64) {
		s := session(t, core.WithNamespace("fuzz"))
		e := election.New(s, name, election.WithPurpose(purpose), election.WithPriority(priority),
			election.WithSeats(seats), election.WithGrace(time.Duration(grace)),
			election.WithZone(zone), election.WithPreferredZones(make([]string, min(max(rank, 0), 20))...))
		says := func(want string) {
			t.Helper()
			if l := must[election.Leader](t)(e.Leader(within(t))); l.Value != want {
				t.Errorf("name %q: leader says %q, want %q", name, l.Value, want)
			}
		}
		term, err := e.Campaign(within(t), value)
		switch {
		case err == nil:
			says(value)
			if err := term.Proclaim(within(t), later); err == nil {
				says(later)
			} else {
				isAll(t, err, core.ErrInvalid)
			}
			resign(t, term)
		case !errors.Is(err, core.ErrInvalid):
			t.Errorf("name %q: %v", name, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left := etcd.Dump(t, "/conclave/fuzz/"); len(left) > 0 {
			t.Errorf("left over: %s", left[0].Key)
		}
	})
}

// foreignKeys are keys below an election's name, well formed and not.
var foreignKeys = []string{"grant", "given/x", "given/", "guard", "line/7f/x", "line/7f1/x", "line/7f0/x", "line/zz/x", "notice/x", "hold/x", "limit", "void/x", "unknown"}

// FuzzForeignValue puts a value of another hand under a key of the election: calls
// return in time, without a panic, and all goes on when it is gone.
func FuzzForeignValue(f *testing.F) {
	for key := range foreignKeys {
		for _, value := range []string{"", "null", "[]", `{"v":99,"rec":null,"mode":"w"}`, `{"acq":"x","owner":"them","graceMs":-5,"value":7}`, `{"value":"them"}`} {
			f.Add(key, []byte(value))
		}
	}
	f.Fuzz(func(t *testing.T, key int, value []byte) {
		name := etcd.Prefix(t)
		name = "foreign-" + name[:strings.IndexByte(name, '-')]
		foreign := prefixOf(name) + foreignKeys[uint(key)%uint(len(foreignKeys))]
		e := election.New(session(t), name)
		client := etcd.Client(t)
		if _, err := client.Put(within(t), foreign, string(value)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(within(t), 20*time.Millisecond)
		defer cancel()
		for _, err := range e.Observe(ctx) {
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
		short, stop := context.WithTimeout(within(t), 20*time.Millisecond)
		defer stop()
		if term, err := e.Campaign(short, "us"); err == nil {
			_ = term.Resign()
		}
		for what, err := range map[string]error{"leader": second(e.Leader(within(t))), "contenders": second(e.Contenders(within(t)))} {
			if err != nil && !errors.Is(err, election.ErrNoLeader) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := client.Delete(within(t), foreign); err != nil {
			t.Fatal(err)
		}
		resign(t, won(t, e, "us"))
	})
}

func second[T any](_ T, err error) error { return err }
