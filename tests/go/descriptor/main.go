// Descriptor prints the published CSI interface as sorted lines, one per fact, in the form that
// tests/csi_descriptor.rs makes of proto/csi.proto.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// facts collects one line per fact.
type facts []string

func (f *facts) add(format string, args ...any) {
	*f = append(*f, fmt.Sprintf(format, args...))
}

func main() {
	file := csi.File_csi_proto
	var found facts
	found.add("file package=%s syntax=%s", file.Package(), file.Syntax())
	for i := 0; i < file.Services().Len(); i++ {
		found.addService(file.Services().Get(i))
	}
	found.addMessages(file.Messages())
	found.addEnums(file.Enums())
	for i := 0; i < file.Extensions().Len(); i++ {
		found.addExtension(file.Extensions().Get(i))
	}
	sort.Strings(found)
	fmt.Fprintln(os.Stdout, strings.Join(found, "\n"))
}

func (f *facts) addService(service protoreflect.ServiceDescriptor) {
	f.add("service %s", service.FullName())
	for i := 0; i < service.Methods().Len(); i++ {
		method := service.Methods().Get(i)
		f.add("method %s input=%s output=%s client_streams=%t server_streams=%t", method.FullName(),
			method.Input().FullName(), method.Output().FullName(), method.IsStreamingClient(), method.IsStreamingServer())
	}
}

func (f *facts) addMessages(messages protoreflect.MessageDescriptors) {
	for i := 0; i < messages.Len(); i++ {
		message := messages.Get(i)
		if message.IsMapEntry() {
			continue // the map field says the same
		}
		f.add("message %s", message.FullName())
		for j := 0; j < message.Fields().Len(); j++ {
			f.addField(message.Fields().Get(j))
		}
		for j := 0; j < message.ReservedRanges().Len(); j++ {
			reserved := message.ReservedRanges().Get(j)
			f.add("reserved %s from=%d until=%d", message.FullName(), reserved[0], reserved[1])
		}
		f.addMessages(message.Messages())
		f.addEnums(message.Enums())
	}
}

func (f *facts) addField(field protoreflect.FieldDescriptor) {
	oneof := "-"
	if field.ContainingOneof() != nil {
		oneof = string(field.ContainingOneof().Name())
	}
	secret := proto.HasExtension(field.Options(), csi.E_CsiSecret) &&
		proto.GetExtension(field.Options(), csi.E_CsiSecret).(bool)
	f.add("field %s number=%d type=%s label=%s oneof=%s json=%s presence=%t packed=%t secret=%t", field.FullName(),
		field.Number(), fieldType(field), label(field), oneof, field.JSONName(), field.HasPresence(), field.IsPacked(), secret)
}

func label(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsMap():
		return "map"
	case field.IsList():
		return "repeated"
	default:
		return "single"
	}
}

func fieldType(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsMap():
		return fmt.Sprintf("<%s,%s>", fieldType(field.MapKey()), fieldType(field.MapValue()))
	case field.Message() != nil:
		return string(field.Message().FullName())
	case field.Enum() != nil:
		return string(field.Enum().FullName())
	default:
		return field.Kind().String()
	}
}

func (f *facts) addEnums(enums protoreflect.EnumDescriptors) {
	for i := 0; i < enums.Len(); i++ {
		enum := enums.Get(i)
		f.add("enum %s", enum.FullName())
		for j := 0; j < enum.Values().Len(); j++ {
			value := enum.Values().Get(j)
			f.add("value %s.%s number=%d", enum.FullName(), value.Name(), value.Number())
		}
		for j := 0; j < enum.ReservedRanges().Len(); j++ {
			reserved := enum.ReservedRanges().Get(j)
			f.add("reserved %s from=%d until=%d", enum.FullName(), reserved[0], reserved[1]+1)
		}
	}
}

func (f *facts) addExtension(extension protoreflect.FieldDescriptor) {
	f.add("extension %s of=%s number=%d type=%s label=%s", extension.FullName(),
		extension.ContainingMessage().FullName(), extension.Number(), fieldType(extension), label(extension))
}
