// Package layers keeps the house in order. It has no code: its tests read the sources of the
// module and fail when a package imports what its floor does not allow, when package runtime
// exports a name of Go's own runtime, or when a package does not say what it is.
package layers
