package importer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/conclavehq/conclave/internal/keyspace"
)

// MaxValue is the largest value that etcd takes by default, less room for its key.
const MaxValue = 1536<<10 - 8<<10

// ErrPlan means that keys cannot be written as they would have to be. The message names one.
var ErrPlan = errors.New("cannot be imported as it is")

// An Item is a key and its value.
type Item struct {
	From    string    // its name in the source
	Key     string    // its name in etcd
	Value   []byte    // any bytes
	Expires time.Time // zero: never
}

// A Found is what a source holds.
type Found struct {
	Items []Item   // with From, and Key the same
	Notes []string // what is not among them, for people
}

// note says something about n keys, if there are any.
func (f *Found) note(n int, what string) {
	if n > 0 {
		f.Notes = append(f.Notes, fmt.Sprintf("%d keys %s", n, what))
	}
}

// A Rule gives keys that begin with From another beginning.
type Rule struct{ From, To string }

// Rules say which keys are taken, and under which names. All of them are about beginnings of keys, letter by letter.
type Rules struct {
	Only []string // take no other; empty: take all
	Skip []string // of these, none
	Map  []Rule   // the longest that fits counts; without one a key keeps its name
}

// apply returns the key's name in etcd, if it is taken.
func (r Rules) apply(key string) (string, bool) {
	begins := func(prefix string) bool { return strings.HasPrefix(key, prefix) }
	if (len(r.Only) > 0 && !slices.ContainsFunc(r.Only, begins)) || slices.ContainsFunc(r.Skip, begins) {
		return "", false
	}
	best := Rule{}
	found := false
	for _, m := range r.Map {
		if begins(m.From) && (!found || len(m.From) > len(best.From)) {
			best, found = m, true
		}
	}
	if found {
		key = best.To + key[len(best.From):]
	}
	return key, true
}

// Plan applies the rules to what was found, leaves out what expires before now, and returns the rest in order of key, with more notes.
// The error is ErrPlan for a key that cannot be written: two of one name, none, one of Conclave's own, or too large a value.
func Plan(f Found, r Rules, now time.Time) (Found, error) {
	out := Found{Notes: slices.Clone(f.Notes)}
	taken := make(map[string]string)
	expired, left := 0, 0
	for _, i := range f.Items {
		key, ok := r.apply(i.From)
		switch {
		case !ok:
			left++
			continue
		case !i.Expires.IsZero() && !i.Expires.After(now):
			expired++
			continue
		}
		i.Key = key
		if err := i.check(); err != nil {
			return out, err
		}
		if other, twice := taken[key]; twice {
			return out, fmt.Errorf("%q and %q would both become %q: %w", other, i.From, key, ErrPlan)
		}
		taken[key] = i.From
		out.Items = append(out.Items, i)
	}
	out.note(left, "are left out, as the rules say")
	out.note(expired, "have expired")
	slices.SortFunc(out.Items, func(a, b Item) int { return cmp.Compare(a.Key, b.Key) })
	return out, nil
}

func (i Item) check() error {
	switch {
	case i.Key == "":
		return fmt.Errorf("%q would have no name: %w", i.From, ErrPlan)
	case strings.HasPrefix(i.Key, keyspace.Root):
		return fmt.Errorf("%q would be written below %s, where only recipes write: %w", i.From, keyspace.Root, ErrPlan)
	case len(i.Value) > MaxValue:
		return fmt.Errorf("%q has %d bytes, and etcd takes %d: leave it out with --skip: %w", i.From, len(i.Value), MaxValue, ErrPlan)
	}
	return nil
}
