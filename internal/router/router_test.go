package router_test

import (
	"testing"

	"github.com/conclavehq/conclave/internal/router"
)

func TestLocal(t *testing.T) {
	f := newFront(t, router.Config{})
	f.local(t, "echo", &echo{}, echoName)
	got, err := f.call(t, "Do", "hello")
	if err != nil || got != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}
