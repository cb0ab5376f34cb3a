package waitqueue

import (
	"encoding/json"
	"testing"
	"time"
)

func sample() Record {
	return Record{V: recordVersion, ID: "1-2", Mode: Exclusive, Owner: `a "quoted" <owner>`, Host: "höst", PID: 7,
		Purpose: `,"since":"`, Priority: -3, Zone: `"b"`, Rank: 2, Grace: 5, Since: time.Unix(1, 5).UTC()}
}

func decode(t *testing.T, s string) Record {
	t.Helper()
	var r Record
	if err := json.Unmarshal([]byte(s), &r); err != nil {
		t.Fatalf("%v in %s", err, s)
	}
	return r
}

func TestRecordsAreWrittenAsJSON(t *testing.T) {
	r := sample()
	r.Prev = &Prev{ID: "0-1", Token: 1 << 40, Cause: CauseForced, By: `"me"`}
	got := decode(t, r.encode(r.common()))
	if *got.Prev != *r.Prev {
		t.Fatalf("prev is %+v, want %+v", *got.Prev, *r.Prev)
	}
	got.Prev, r.Prev = nil, nil
	if got != r {
		t.Fatalf("got %+v, want %+v", got, r)
	}
}

func TestHandoverKeepsWhatItDoesNotKnow(t *testing.T) {
	r := sample()
	now := time.Unix(100, 0).UTC()
	own := r.encode(r.common())
	foreign := `{"v":2,"since":"2020-01-01T00:00:00Z","acq":"1-2","region":{"since":"x"}}`
	for _, rec := range []string{own, foreign} {
		var before, after map[string]json.RawMessage
		_ = json.Unmarshal([]byte(rec), &before)
		out := handedOver([]byte(rec), &Prev{ID: "0-1", Token: 3, Cause: CauseReleased}, now)
		if err := json.Unmarshal([]byte(out), &after); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		got := decode(t, out)
		if !got.Since.Equal(now) || got.Prev == nil || got.Prev.Token != 3 {
			t.Errorf("since %v, prev %+v in %s", got.Since, got.Prev, out)
		}
		for k, v := range before {
			if k != "since" && string(after[k]) != string(v) {
				t.Errorf("%s became %s in %s", k, after[k], out)
			}
		}
	}
}

func TestTicketsAreWrittenAsJSON(t *testing.T) {
	r := sample()
	rec := json.RawMessage(r.encode(r.common()))
	for _, v := range []ticketValue{
		{V: recordVersion, Record: rec, Mode: Exclusive},
		{V: recordVersion, Record: rec, Mode: Permits, Permits: 3},
		{V: recordVersion, Record: rec, Mode: Set, Delay: 5e9, Shadow: 0x7fffffffffff},
	} {
		if got, want := v.encode(), mustJSON(v); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
