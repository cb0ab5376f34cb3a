package cli

import (
	"errors"
	"io/fs"
	"net"
	"syscall"

	"github.com/conclavehq/conclave/core/embedded"
)

// ofStart explains why a host did not start, or ended by itself, where that is not
// about what another process holds.
func (e *Error) ofStart(err error) bool {
	op, listens := errors.AsType[*net.OpError](err)
	_, files := errors.AsType[*fs.PathError](err)
	switch {
	case errors.Is(err, embedded.ErrRemoved):
		e.Reason = "member_removed"
		e.Hint = "move the data directory away, and join anew: conclave serve --join URL"
	case errors.Is(err, embedded.ErrMemberExists):
		e.Reason = "member_exists"
		e.Hint = "if its data are lost, on another host: conclave member replace NAME, and then here with --join; else take another --name and address"
	case listens && op.Addr != nil && errors.Is(err, syscall.EADDRNOTAVAIL):
		e.Reason = "address_not_available"
		e.Message = "no interface of this machine has the address " + op.Addr.String()
		e.Hint = "listen on one that it has; what others are told is --advertise-client and --advertise-peer"
	case listens && op.Addr != nil && errors.Is(err, fs.ErrPermission):
		e.Reason = "address_not_permitted"
		e.Message = "this user may not listen on " + op.Addr.String()
		e.Hint = "take a port above 1023"
	case files && (errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)):
		e.Reason = "data_dir"
		e.Hint = "name a directory that this user can write to with --data-dir"
	default:
		return false
	}
	return true
}
