# Writes the scenarios of a folder into a C++ file, so that the binary carries them. Run as a script with -DLIBRARY and
# -DOUTPUT.
file(GLOB files ${LIBRARY}/*.toml)
list(SORT files)
set(default ${LIBRARY}/kv.toml)
list(REMOVE_ITEM files ${default})
set(text "#include \"cmd/scenario_file.h\"\n\nnamespace mneme::cmd {\n\nstd::span<const BuiltInScenario> built_in_scenarios() {\n  static constexpr BuiltInScenario all[] = {\n")
foreach(file ${default} ${files})
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} content)
  string(APPEND text "      {\"${name}\", R\"toml(${content})toml\"},\n")
endforeach()
string(APPEND text "  };\n  return all;\n}\n\n}  // namespace mneme::cmd\n")
file(WRITE ${OUTPUT} "${text}")
