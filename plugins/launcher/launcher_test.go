package launcher_test

import (
	"strings"
	"testing"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/launcher"
)

// A recipe in a process of its own serves as one in the host's does.
func TestServesFromItsOwnProcess(t *testing.T) {
	t.Parallel()
	h, p := run(t, launcher.Config{}, self(t, "trial", trial{version: "1.0.0"}))
	c := connect(t, h)
	if got, err := do(within(t), c, "echo hello"); err != nil || got != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	if got, err := do(within(t), c, "put a/b"); err != nil || got != "/conclave/default/trial/a%2Fb/" {
		t.Errorf("put: %q, %v", got, err)
	}
	if _, err := do(within(t), c, "panic"); recipe.Reason(err) != "recipe_failed" || strings.Contains(err.Error(), "mistake") {
		t.Errorf("panic: %v", err)
	}
	if _, err := do(within(t), c, "nothing"); recipe.Reason(err) != "invalid_verb" {
		t.Errorf("its own error: %v", err)
	}
	now := becomes(t, p, recipe.StateReady)
	if now.PID == 0 || now.Started == 0 || now.Restarts != 0 {
		t.Errorf("%+v", now)
	}
	t.Log("started in", now.Started)
}
