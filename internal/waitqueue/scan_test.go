package waitqueue

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// Values as they are written, as they might be, and as nobody should.
var values = []string{
	`{}`, `{"v":1}`, `{"index":7}`, `{"index":-1}`, `{"v":1,"index":3,"hints":[]}`, `{"hints":[{}]}`,
	`{"v":1,"rec":{"a":"}","b":"\"]"},"mode":"w","granted":true,"index":2,"hints":[{"key":"k,]","create":1,"lease":2,"ticket":{"x":[1,{}]}},{"key":"l"}]}`,
	`{"hints":[1,"a",null,[2,[3]],{"a":{}}],"index":5}`,
	`{ "index" : 4 , "hints" : [ { } ] }`, "{\n\"index\":4}", `{"index":4,"later":{"of":["a","newer"]},"version":true}`,
	`{"ind\u0065x":9}`, `{"index":1,"index":2}`, `{"index":99999999999}`, `{"index":1.5}`, `{"index":"1"}`,
	``, `{`, `}`, `{"`, `{"index"`, `{"index":`, `{"index":1`, `{"index":1,`, `{"hints":[`, `{"hints":[1`, `{"hints":[1,`, `{"hints":[1}`,
	`[]`, `null`, `7`, `"x"`, `{"index":1}}`, `{"hints":[{]}]}`, `{"index":1]`, `{,}`, `{"a"}`, `{"a":}`, `{:1}`, `{"hints":[,]}`,
}

// Whatever encoding/json can read reads the same.
func sameAsJSON(t *testing.T, b []byte) {
	t.Helper()
	var v ticketValue
	if err := json.Unmarshal(b, &v); err == nil && !repeats(b) {
		index, hints := grantedValue(b)
		if index != int64(v.Index) || len(hints) != len(v.Hints) || len(hints) > 0 && !reflect.DeepEqual(hints, v.Hints) {
			t.Errorf("%s: index %d, hints %s; want %d, %s", b, index, hints, v.Index, v.Hints)
		}
	} else {
		grantedValue(b) // must not panic
	}
	var f hintForm
	if err := json.Unmarshal(b, &f); err == nil && !repeats(b) {
		if got := readHint(b); got.Key != f.Key || got.Create != f.Create || got.Lease != f.Lease || string(got.Ticket) != string(f.Ticket) {
			t.Errorf("%s: %+v, want %+v", b, got, f)
		}
	} else {
		readHint(b)
	}
}

// repeats tells of what JSON leaves open: a name that comes twice, or in
// another case, which encoding/json takes for the same.
func repeats(b []byte) bool {
	s := strings.ToLower(string(b))
	for _, name := range []string{"index", "hints", "key", "create", "lease", "ticket"} {
		if strings.Count(s, name) > 1 || strings.Count(string(b), name) != strings.Count(s, name) {
			return true
		}
	}
	return strings.Contains(s, "null") || strings.Contains(s, `\`)
}

func TestScannedValuesReadAsJSONDoes(t *testing.T) {
	for _, v := range values {
		sameAsJSON(t, []byte(v))
	}
}

func TestGrantedTicketIsReadAsItWasWritten(t *testing.T) {
	h := hint{Key: "k", Create: 4, Lease: 5, val: []byte(`{"v":1,"rec":{"purpose":"a \"b\" ]}"},"mode":"w"}`)}
	rest := encodeHints([]hint{{Key: "l", Create: 6, Lease: 7, val: h.val}, {Key: "m", Create: 8, Lease: 9, val: h.val}})
	index, hints := grantedValue([]byte(h.granted(3, rest)))
	if index != 3 || !reflect.DeepEqual(hints, rest) {
		t.Errorf("index %d, hints %s", index, hints)
	}
	for i, want := range []hint{{Key: "l", Create: 6, Lease: 7}, {Key: "m", Create: 8, Lease: 9}} {
		got := openHint(hints[i])
		if got.Key != want.Key || got.Create != want.Create || got.Lease != want.Lease || got.Mode != Exclusive || string(got.val) != string(h.val) {
			t.Errorf("hint %d: %+v", i, got)
		}
	}
}

func FuzzScan(f *testing.F) {
	for _, v := range values {
		f.Add([]byte(v))
	}
	f.Fuzz(sameAsJSON)
}
