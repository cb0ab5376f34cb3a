package state

import (
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

func TestParse(t *testing.T) {
	for rest, want := range map[string]struct {
		kind Kind
		id   string
	}{
		"grant":         {Grant, ""},
		"limit":         {Limit, ""},
		"shadow":        {Shadow, ""},
		"read/1-a":      {Read, "1-a"},
		"hold/1-a":      {Hold, "1-a"},
		"notice/1-a":    {Notice, "1-a"},
		"given/1-a":     {Given, "1-a"},
		"line/7f/1-a":   {Ticket, "1-a"},
		"line/7f3/1-a":  {Ticket, "1-a"},
		"line/7f/":      {Other, ""},
		"line/7f33/1-a": {Other, ""},
		"line/xy/1-a":   {Other, ""},
		"grant/1-a":     {Other, ""},
		"given":         {Other, ""},
		"void/1-a":      {Other, ""},
	} {
		if kind, id := Parse(rest); kind != want.kind || id != want.id {
			t.Errorf("%s is %d, %q", rest, kind, id)
		}
	}
}

// Waiters stand by priority, then by rank, then by age.
func TestOrderOfTheLine(t *testing.T) {
	names := NewNames(NewSpace("default", "election"))
	for k, b := range []string{"7f", "7f2", "7e", "7f1", "7f"} {
		id := string(rune('a' + k))
		names.Put(&mvccpb.KeyValue{Key: []byte(names.Name("jobs") + "line/" + b + "/1-" + id), Version: 1, CreateRevision: int64(k + 1),
			Value: []byte(`{"v":1,"rec":{"acq":"1-` + id + `"}}`)})
	}
	order := ""
	for _, w := range names.Get("jobs").Waiters() {
		order += w.ID[2:]
		if want := map[byte]int{'c': 1}[w.ID[2]]; w.Priority != want {
			t.Errorf("%s has the priority %d", w.ID, w.Priority)
		}
	}
	if first, ok := names.Get("jobs").First(); order != "caedb" || !ok || first.ID != "1-c" {
		t.Errorf("they stand as %s, the first is %s", order, first.ID)
	}
}

// The ranges of a name's owners hold no ticket, and nothing of another name.
func TestRangesOfOwners(t *testing.T) {
	s := NewSpace("default", "election")
	in := func(key string, ranges ...Range) bool {
		for _, r := range ranges {
			if key >= r.From && key < r.End {
				return true
			}
		}
		return false
	}
	for rest, owner := range map[string]bool{"given/1-a": true, "grant": true, "hold/1-a": true, "limit": true, "notice/1-a": true,
		"line/7f/1-a": false, "read/1-a": false, "void/1-a": false} {
		if in(s.Name("jobs")+rest, s.Owners("jobs")...) != owner {
			t.Errorf("%s is read: %v", rest, !owner)
		}
		if in(s.Name("jobs2")+rest, append(s.Owners("jobs"), s.Line("jobs"))...) {
			t.Errorf("%s of another name is read", rest)
		}
	}
	if !in(s.Name("jobs")+"line/7f3/1-a", s.Line("jobs")) {
		t.Error("a ticket is not in the line")
	}
}
