# Writes rows {"NAME", R"(TEXT)"} for a table in C++: cmake -Dfiles=A;B -Doutput=FILE -P embed.cmake
set(rows "")
foreach(path IN LISTS files)
  get_filename_component(name ${path} NAME)
  file(READ ${path} text)
  string(APPEND rows "{\"${name}\", R\"portwrap(${text})portwrap\"},\n")
endforeach()
file(WRITE ${output} "${rows}")
