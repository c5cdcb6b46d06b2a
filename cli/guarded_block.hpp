// A block of lines of ours in a file of somebody else's, between two guards, and files that are replaced in one step. The
// rest of the file is never changed by a byte.
#pragma once

#include <string>
#include <string_view>

#include "portwrap/result.hpp"

namespace portwrap {

enum class BlockPlace {
    end,          ///< a new block goes to the end
    after_shebang ///< a new block goes before all other lines but "#!..."
};
/// Pure: the file's text with the block's lines (which end in newlines) instead of the old block's; an empty block is taken
/// away with its guards. Nothing when the guards are not a pair.
[[nodiscard]] Result<std::string> with_block(std::string_view text, std::string_view block, BlockPlace place);

/// with_block for a file, which is made when there is none. Its mode and a symbolic link to it are kept.
Status put_block(const std::string& path, std::string_view block, BlockPlace place);
/// In one step: readers see the old text or the new one.
Status replace_file(const std::string& path, std::string_view text, unsigned mode = 0644);

/// A regular file's text; empty when there is none.
Result<std::string> read_whole_file(const std::string& path);

}  // namespace portwrap
