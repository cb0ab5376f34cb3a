package suggest_test

import (
	"testing"

	"github.com/conclavehq/conclave/internal/suggest"
)

func TestClosest(t *testing.T) {
	t.Parallel()
	known := []string{"listen", "listen_client", "data_dir", "run", "ls"}
	for typed, want := range map[string]string{
		"lsten": "listen", "LISTEN": "listen", "datadir": "data_dir", "listen_clinet": "listen_client", "rnu": "run", "sl": "ls", "quorum": "", "": "",
	} {
		if got := suggest.Closest(typed, known); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}
