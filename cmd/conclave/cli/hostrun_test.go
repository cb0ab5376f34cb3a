package cli

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/conclavehq/conclave/core/embedded"
)

// A port that is taken is named, and no other with it.
func TestHostErrorNamesThePort(t *testing.T) {
	t.Parallel()
	taken := &net.OpError{Op: "listen", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2380}, Err: syscall.EADDRINUSE}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("%w: %w", embedded.ErrPortInUse, taken), "127.0.0.1:2380 is in use: "},
		{fmt.Errorf("%w: somewhere", embedded.ErrPortInUse), "a or b is in use: "},
	} {
		e, ok := errors.AsType[*Error](hostError(tt.err, "a or b", "elsewhere"))
		if !ok || e.Exit != ExitFailed || e.Reason != "address_in_use" || !strings.HasPrefix(e.Message, tt.want) {
			t.Errorf("%+v, want %s", e, tt.want)
		}
	}
}
