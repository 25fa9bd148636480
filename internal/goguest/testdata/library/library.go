// Package library is no program: it cannot be built as a plugin.
package library
