package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// socketName is the administrator's socket in the data directory.
const socketName = "conclave.sock"

// adminLook bounds the look whether somebody answers on the socket.
const adminLook = 200 * time.Millisecond

// maxSocketPath is what fits into a socket's address on every system.
const maxSocketPath = 103

// listenAPI takes the API's address.
func listenAPI(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &AddressInUseError{Addr: addr, Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("api.listen: %w", err)
	}
	return l, nil
}

// An AddressInUseError says that another process listens on the API's address.
type AddressInUseError struct {
	Addr string // as it was configured
	Err  error  // the system's
}

// Error names the address.
func (e *AddressInUseError) Error() string { return "api.listen: " + e.Addr + " is in use" }

// Unwrap returns the system's error.
func (e *AddressInUseError) Unwrap() error { return e.Err }

// listenAdmin makes the administrator's socket, which only the user who runs the
// host can open, and its directory. A socket that a killed host left behind is
// replaced; one on which another host answers stays that one's.
func listenAdmin(dir string) (net.Listener, error) {
	path := filepath.Join(dir, socketName)
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("socket %s: the path is longer than %d bytes", path, maxSocketPath)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	// On an external etcd nothing else claims the directory.
	if c, err := (&net.Dialer{Timeout: adminLook}).DialContext(context.Background(), "unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("socket %s: another host answers there", path), c.Close())
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("socket: %w", err)
	}
	return l, nil
}

// routes adds a handler to mux; a pattern that is taken is an error instead of
// ServeMux's panic.
func routes(mux *http.ServeMux, handlers []handler) (err error) {
	for _, h := range handlers {
		func() {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("pattern %q: %v", h.pattern, p)
				}
			}()
			mux.Handle(h.pattern, h.Handler)
		}()
		if err != nil {
			return err
		}
	}
	return nil
}
