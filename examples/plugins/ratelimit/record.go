package main

import (
	"encoding/json"
	"fmt"
	"time"
)

// record is a quota and its window, as etcd has it: JSON under one key. Every
// change of it is a transaction that compares the key's revision.
type record struct {
	V      int   `json:"v"`
	Quota  int64 `json:"quota"`
	Window int64 `json:"window_ms"` // of the next window; this one ends at Ends
	Epoch  int64 `json:"epoch"`     // counts windows; no two of a name have the same
	Began  int64 `json:"began"`     // Unix time in milliseconds
	Ends   int64 `json:"ends"`
	Spent  int64 `json:"spent"` // tokens of this window that hosts have claimed and not given back
	// Claim is the latest claim's own id, by which a host whose reply was lost
	// finds out that it has the block.
	Claim string `json:"claim,omitempty"`
}

func (r record) encode() string {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // a struct of integers and strings
	}
	return string(b)
}

func decode(b []byte) (record, error) {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("the quota's record: %w", err)
	}
	if r.V != 1 || r.Window <= 0 {
		return r, fmt.Errorf("the quota's record: version %d, window %d ms: not understood", r.V, r.Window)
	}
	return r, nil
}

// newRecord is a quota in its first window. Its number is the time, so that a
// host which still has tokens of an earlier quota of the name, that was deleted,
// does not give them back to this one.
func newRecord(quota int64, window time.Duration, now time.Time) record {
	r := record{V: 1, Quota: quota, Window: window.Milliseconds(), Epoch: now.UnixMilli()}
	return r.restart(now)
}

// at returns the record as it is to be at a time: in the next window, if this
// one has ended. Windows never go back.
func (r record) at(now time.Time) record {
	if now.UnixMilli() < r.Ends {
		return r
	}
	return r.restart(now)
}

// restart returns the record in a new window that begins now, and ends where the
// grid of windows says.
func (r record) restart(now time.Time) record {
	start := now.UnixMilli() / r.Window * r.Window
	r.Began, r.Ends = now.UnixMilli(), start+r.Window
	r.Spent, r.Epoch, r.Claim = 0, r.Epoch+1, ""
	return r
}

// free is how many tokens nobody has claimed.
func (r record) free() int64 { return max(0, r.Quota-r.Spent) }

// claim takes a block that holds at least need tokens out of what is free; got
// is 0 if there are not so many. The less is free, the smaller the block, so
// that the last tokens of a window are not all in the hands of one host.
func (r record) claim(need, block int64, id string) (next record, got int64) {
	free := r.free()
	if need > free {
		return r, 0
	}
	got = max(need, min(block, (free+7)/8))
	r.Spent += got
	r.Claim = id
	return r, got
}

// giveBack returns what is left of a block of a window; changed is false if that
// window is over, when there is nothing to give back to.
func (r record) giveBack(epoch, left int64) (next record, changed bool) {
	if epoch != r.Epoch || left == 0 {
		return r, false
	}
	r.Spent -= left
	r.Claim = ""
	return r, true
}

// ahead says that the record's window begins more than a window after now:
// another host's clock, or this one's, is wrong.
func (r record) ahead(now time.Time) bool {
	return now.UnixMilli() < r.Began-r.Window
}
