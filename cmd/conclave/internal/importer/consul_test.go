package importer_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/cmd/conclave/internal/importer"
)

// What `consul kv export` prints, as its documentation shows it.
const consulExport = `[
	{"key": "app/", "flags": 0, "value": ""},
	{"key": "app/name", "flags": 0, "value": "c2hvcA=="},
	{"key": "app/raw", "flags": 42, "value": "AP8="},
	{"key": "empty", "flags": 0, "value": ""}
]`

func checkConsul(t *testing.T, f importer.Found) {
	t.Helper()
	var got []string
	for _, i := range f.Items {
		got = append(got, fmt.Sprintf("%s=%q", i.From, i.Value))
	}
	if want := []string{`app/name="shop"`, `app/raw="\x00\xff"`, `empty=""`}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestConsulExport(t *testing.T) {
	f, err := importer.ParseConsul(strings.NewReader(consulExport))
	if err != nil {
		t.Fatal(err)
	}
	checkConsul(t, f)
	if len(f.Notes) != 2 || !strings.HasPrefix(f.Notes[0], "1 keys are folders") || !strings.HasPrefix(f.Notes[1], "1 keys have flags") {
		t.Errorf("notes %v", f.Notes)
	}
	if _, err := importer.ParseConsul(strings.NewReader("nonsense")); err == nil {
		t.Error("nonsense was read")
	}
}

// A server that answers as Consul's API is documented to.
func TestConsulAPI(t *testing.T) {
	const answer = `[
		{"LockIndex":0,"Key":"app/","Flags":0,"Value":null,"CreateIndex":8,"ModifyIndex":8},
		{"LockIndex":0,"Key":"app/name","Flags":0,"Value":"c2hvcA==","CreateIndex":9,"ModifyIndex":9},
		{"LockIndex":1,"Key":"app/raw","Flags":42,"Value":"AP8=","Session":"adf4238a-882b-9ddc-4a9d-5b6758e4159e","CreateIndex":10,"ModifyIndex":11},
		{"LockIndex":0,"Key":"empty","Flags":0,"Value":null,"CreateIndex":12,"ModifyIndex":12}
	]`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("X-Consul-Token") != "secret":
			http.Error(w, "Permission denied", http.StatusForbidden)
		case r.URL.Path == "/v1/kv/" && r.URL.Query().Get("recurse") == "true" && r.URL.Query().Get("dc") == "east":
			if _, err := io.WriteString(w, answer); err != nil {
				t.Error(err)
			}
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	f, err := importer.FromConsul(t.Context(), s.Client(), s.URL, "secret", "east", "")
	if err != nil {
		t.Fatal(err)
	}
	checkConsul(t, f)
	if len(f.Notes) != 3 {
		t.Errorf("notes %v", f.Notes)
	}
	if f, err := importer.FromConsul(t.Context(), s.Client(), s.URL, "secret", "", "none such"); err != nil || len(f.Items) != 0 {
		t.Errorf("a prefix without keys: %v, %v", f, err)
	}
	if _, err := importer.FromConsul(t.Context(), s.Client(), s.URL, "", "", ""); err == nil || !strings.Contains(err.Error(), "Permission denied") {
		t.Errorf("without a token: %v", err)
	}
	if _, err := importer.FromConsul(t.Context(), s.Client(), "nowhere", "", "", ""); err == nil {
		t.Error("nowhere was read")
	}
}
