/* FlatBuffers includes it for Android, whose SDK is not here; Clang defines __ANDROID_API__ itself. */
